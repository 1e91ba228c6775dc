"""One request to upstream: what a view asks for, before it is written as HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from proxyapi.bodies.json_body import JSONBody
from proxyapi.routes import Route, find_route
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.passed_headers import Headers


class Upload(Protocol):
    """Interface of a request body that goes upstream while it is still arriving (`proxyapi.call.uploads`)."""

    content_type: str

    @property
    def complete(self) -> bool:
        """True once all of the body has arrived from the caller."""

    @property
    def size(self) -> int | None:
        """The number of bytes that go upstream; None while it is not known."""

    @property
    def is_whole(self) -> bool:
        """True if all of the body was received and read before anything goes upstream."""

    async def check(self) -> None:
        """Checks, once all of the body has been read, whether the caller may send it; only the first call does so."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yields the pieces of the caller's body while it arrives, each as soon as it may be sent upstream.

        Raises `ProxyError` or `CallerGone`, both of which end the call.
        """


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream, before it is written as bytes.

    `path` is below the base URL, and `query` is already encoded. `deadline` is the moment when the whole call ends, in
    seconds of the event loop's clock.

    `content` has the bytes of a body that was received whole, and `json` the object in them, which policies read.
    `upload` is a form, which goes upstream while it arrives. A request has only one of the two, or no body.

    If `headers` are given, these are sent, with the account's credentials; otherwise those that the SDK would send.

    `route` is the route of `/v1` to which the path belongs; None if `/v1` has no such route.
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
    route: Route | None = field(init=False)

    def __post_init__(self) -> None:
        self.route = find_route(self.path)

    @property
    def is_of_text(self) -> bool:
        """True if a streamed answer to this request consists of text, and not of pictures or sound."""
        return not self.path.startswith(("/images/", "/audio/"))

    @property
    def text_size(self) -> int:
        """The size in bytes of the JSON body that the policies read; 0 if the request has none."""
        return 0 if self.json is None else self.json.size
