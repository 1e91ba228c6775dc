"""One request to upstream: what a view asks for, before it is written as HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from proxyapi.bodies.json_body import JSONBody
from proxyapi.routes import Route, find_route
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.passed_headers import Headers

# The name of a form's part, then its file name (None for a plain field), its bytes and its content type.
FormPart = tuple[str, tuple[str | None, bytes, str | None]]


class Upload(Protocol):
    """The body of a caller's request that goes upstream while it is still arriving (`proxyapi.call.uploads`)."""

    @property
    def complete(self) -> bool:
        """True once all of the body has arrived from the caller."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yields the pieces of the caller's body, while it arrives, as soon as they may be sent upstream.

        Raises `ProxyError` or `CallerGone`, both of which end the call.
        """


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream, before it is written as bytes.

    `path` is below the base URL, and `query` is already encoded. `deadline` is the moment when the whole call ends, in
    seconds of the event loop's clock.

    The body is one of `content`, `form` and `upload`, or there is none. `content` has the bytes that go upstream, and
    `json` the object in them, which policies read.

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
    form: list[FormPart] = field(default_factory=list)
    upload: Upload | None = None
    headers: Headers | None = None
    route: Route | None = field(init=False)

    def __post_init__(self) -> None:
        self.route = find_route(self.path)

    @property
    def is_of_text(self) -> bool:
        """True if a stream that answers the request consists of text; pictures and sound are not."""
        return not self.path.startswith(("/images/", "/audio/"))

    @property
    def form_texts(self) -> list[tuple[str, str]]:
        """The names and values of the text fields of the request's form, in their order; files are left out."""
        return [
            (name, text.decode("utf-8", "replace")) for name, (file_name, text, _) in self.form if file_name is None
        ]

    @property
    def text_size(self) -> int:
        """The number of bytes of the request that policies read: its JSON, or its form's fields without the files."""
        json_size = 0 if self.json is None else self.json.size
        return json_size + sum(len(text) for _, (file_name, text, _) in self.form if file_name is None)
