"""Owns the reading of a request that asks for another protocol (`Upgrade`, CONNECT) as if it did not ask.

llhttp, the parser, ends such a request at its head: whatever follows is another protocol's. The gateway speaks no other
protocol and may ignore the offer (RFC 9110, 7.8), and then the body belongs to the request. Otherwise the bytes of the
body would be lost, or read as a second request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import httptools


class Callbacks(Protocol):
    """What a parser calls; a subset of `httptools.HTTPProtocol`."""

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class BehindHead:
    """The callbacks of a parser that is given a head which its protocol has seen before: they pass on what follows."""

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
    """Returns a parser with uvicorn's leniency: a request that came behind `Connection: close` is no error."""
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head_without_offer(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns a request's head for a parser whose callbacks are `BehindHead`: the same framing, without `Upgrade`.

    Neither the method nor the path changes how a body is read, except for CONNECT, which ends at its head always.
    """
    lines = [b"%b: %b" % header for header in headers if header[0].lower() != b"upgrade"]
    return b"\r\n".join([b"POST / HTTP/%b" % http_version.encode(), *lines, b"", b""])
