"""Owns a tap between a client and the gateway: every byte passes unchanged, the client's requests are kept.

It is why the clients need nothing in them that records: what they sent is read off the wire.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

_PIECE = 65536


@dataclass
class Sent:
    """One request as it left the client."""

    method: str
    path: str
    body: bytes


class _Reader:
    """The callbacks of httptools' parser, for one connection."""

    def __init__(self, keep: Callable[[Sent], None]) -> None:
        self._keep = keep
        self._path = self._body = b""
        self._parser = httptools.HttpRequestParser(self)
        self.feed = self._parser.feed_data

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, part: bytes) -> None:
        self._path += part

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self._keep(Sent(self._parser.get_method().decode(), self._path.decode(), self._body))


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as gateway:
            answers = threading.Thread(target=_pass, args=(gateway, self.request), daemon=True)
            answers.start()
            _pass(self.request, gateway, _Reader(self.server.sent.append).feed)
            answers.join()


def _pass(source: socket.socket, target: socket.socket, read: Callable[[bytes], None] = lambda piece: None) -> None:
    """Passes bytes on until one side leaves, and lets the other know."""
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            read(piece)  # before it goes on: whoever has an answer finds its request kept
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.sent: list[Sent] = []


class Tap:
    """`url` stands for the gateway's; `sent` is what clients have sent there, in the order of its last bytes."""

    def __init__(self, server: _Server) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.sent = server.sent


@contextmanager
def tapped(url: str) -> Iterator[Tap]:
    """A tap on the server at `url`."""
    parts = urlsplit(url)
    with _Server((parts.hostname or "", parts.port or 0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield Tap(server)
        finally:
            server.shutdown()
            thread.join()
