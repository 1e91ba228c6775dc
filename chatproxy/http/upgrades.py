"""Reads a request that offers another protocol (`Upgrade`, CONNECT) as if it made no offer.

llhttp, the parser, stops after the head of such a request, because the other protocol's bytes would follow. The gateway
speaks no other protocol and may ignore the offer (RFC 9110, 7.8). Then the request's body follows, and must be read
here; otherwise its bytes would be lost, or read as a second request.

So a second parser is given the same head without the offer, and then the body. `BehindHead` keeps the head from being
reported twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import httptools


class Callbacks(Protocol):
    """Interface of the object whose methods an HTTP parser of `httptools` calls while it reads a request."""

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class BehindHead:
    """Callbacks of a second HTTP parser that reads a request's head again; only what follows it goes to `protocol`.

    The first parser of a connection stops after the head of a request that offers to switch protocols (`Upgrade`,
    CONNECT). The second one must read this head, too, to know where the body ends; then it reads the rest.
    """

    def __init__(self, protocol: Callbacks) -> None:
        self._protocol = protocol
        self._is_head_over = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if self._is_head_over:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_head_over:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_head_over:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_head_over:
            self._protocol.on_headers_complete()
        self._is_head_over = True


def make_parser(callbacks: Callbacks) -> httptools.HttpRequestParser:
    """Returns a strict HTTP parser that calls the methods of `callbacks`."""
    parser = httptools.HttpRequestParser(callbacks)
    # Like uvicorn's parser, it accepts a further request after one with `Connection: close`.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head_without_offer(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Builds the head of a request, as bytes, with the given headers except for `Upgrade`.

    A second parser reads this head to learn where the body ends. The request line is always `POST /`, since the method
    and the path do not matter for that.
    """
    lines = [b"%b: %b" % header for header in headers if header[0].lower() != b"upgrade"]
    # Method and path do not change how a body is read. The one exception is CONNECT, whose request always ends at its
    # head.
    return b"\r\n".join([b"POST / HTTP/%b" % http_version.encode(), *lines, b"", b""])
