"""One request to upstream, as a view builds it: before it is written as HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import CallerTimeout, UpstreamTimeout
from proxyapi.keys.credentials import Credentials
from proxyapi.routes import Route, find_route
from proxyapi.upstream.passed_headers import Headers

WITHOUT_TEXT = frozenset({"images", "audio"})  # families of routes whose streams are pictures or sound


class Upload(Protocol):
    """Interface of a request body that is sent upstream while it arrives (`proxyapi.call.uploads` implements it)."""

    content_type: str

    @property
    def complete(self) -> bool:
        """True once the whole body has arrived from the caller."""

    @property
    def size(self) -> int | None:
        """The number of bytes of the body that go upstream; None while this is not known."""

    @property
    def is_whole(self) -> bool:
        """True if the whole body is received before the first byte of it is sent upstream."""

    async def check(self) -> None:
        """Checks the whole body, once it has arrived, and reserves dollars for the call; a second call does nothing.

        Raises:
            ProxyError: the end of the body must not be sent upstream.
        """

    def pieces(self) -> AsyncIterator[bytes]:
        """Yields the caller's body in pieces while it arrives, each as soon as it may go upstream.

        Raises `ProxyError` if the body is refused, and `CallerGone` if the caller has left; both end the call.
        """


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream, before it is written as bytes.

    * `path`: the path below the base URL.
    * `query`: the query string, already encoded.
    * `deadline`: the end of the whole call, in seconds of the event loop's clock.
    * `is_callers_deadline`: whether the caller has set the deadline.
    * `content`: the body, if it has arrived whole.
    * `json`: the JSON object in `content`, from which checks of the body read its members.
    * `upload`: a form that is sent upstream while it arrives; then there is no `content`.
    * `headers`: sent in addition to the account's credentials. None means the headers of the OpenAI SDK.
    * `route`: the route of `/v1` for this path, or None.
    """

    method: str
    path: str
    credentials: Credentials
    deadline: float
    query: str = ""
    content: bytes | None = None
    json: JSONBody | None = None
    upload: Upload | None = None
    headers: Headers | None = None
    is_callers_deadline: bool = False
    route: Route | None = field(init=False)

    def __post_init__(self) -> None:
        self.route = find_route(self.path)

    @property
    def account(self) -> Credentials:
        """The upstream account that the request is for: an organization and a project in its headers count first."""
        own, headers = self.credentials, self.headers
        if headers is None:
            return own
        project = headers.get("OpenAI-Project", own.project)
        organization = headers.get("OpenAI-Organization", own.organization)
        is_own = project == own.project and organization == own.organization
        return own if is_own else Credentials(own.api_key, project, organization)

    @property
    def timeout_error(self) -> type[UpstreamTimeout]:
        """The class of the error to raise when the deadline has passed."""
        return CallerTimeout if self.is_callers_deadline else UpstreamTimeout

    @property
    def is_of_text(self) -> bool:
        """True if a streamed answer to this request is text, not pictures or sound."""
        # By the route, not by the path, which may have escapes: `/%69mages/generations`.
        return self.route is None or self.route.family.name not in WITHOUT_TEXT

    @property
    def text_size(self) -> int:
        """The size of the request's JSON body in bytes; 0 if the request has no JSON body."""
        return 0 if self.json is None else self.json.size
