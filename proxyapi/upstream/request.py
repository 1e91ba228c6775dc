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
    """A request body that is sent upstream while it is still arriving (`proxyapi.call.uploads`)."""

    @property
    def complete(self) -> bool:
        """True once the caller has sent all of it."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yields the pieces as they arrive. Raises `ProxyError` or `CallerGone`, which ends the call."""


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream. `path` is below the base URL, `query` is already encoded.

    `deadline` ends the whole call; it is in seconds of the event loop's clock. A request has `content`, a `form`, an
    `upload`, or no body. `content` has the bytes that go upstream, `json` the object in them, which policies read. With
    `headers` these are sent, and the account's credentials; without, the headers that the SDK would send.
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

    @property
    def route(self) -> Route | None:
        """The route of the path; None if `/v1` has no such route."""
        return find_route(self.path)

    @property
    def is_of_text(self) -> bool:
        """True if a stream that answers the request consists of text; pictures and sound are not."""
        return not self.path.startswith(("/images/", "/audio/"))

    @property
    def form_texts(self) -> list[tuple[str, str]]:
        """The names and values of the form's text fields, in their order."""
        return [
            (name, text.decode("utf-8", "replace")) for name, (file_name, text, _) in self.form if file_name is None
        ]

    @property
    def text_size(self) -> int:
        """The number of bytes that policies read: those of the JSON, and of a form's fields without its files."""
        json_size = 0 if self.json is None else self.json.size
        return json_size + sum(len(text) for _, (file_name, text, _) in self.form if file_name is None)
