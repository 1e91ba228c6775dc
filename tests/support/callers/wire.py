"""Speaks HTTP/1.1 by hand over a socket, for requests that no well-behaved client would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway


@dataclass
class WireAnswer:
    """An answer exactly as it was received over a socket: status, headers and body.

    The names of headers are in lower case. `pairs` has all headers in their order, repeated ones too; of a repeated
    one, `headers` has the last.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


class Wire:
    """A client connection over a plain socket, on which a test sends and reads bytes.

    Each read fails after `PATIENCE` seconds, so that a server that hangs makes the test fail.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def read_head(self) -> WireAnswer:
        """Reads the next answer up to the end of its head, and returns its status and headers.

        An interim answer (status 100) counts as an answer, too.
        """
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        split = (line.partition(": ") for line in lines)
        pairs = [(name.lower(), value) for name, _, value in split]
        return WireAnswer(int(first.split(" ")[1]), dict(pairs), pairs=pairs)

    def read_answer(self) -> WireAnswer:
        """Reads the next answer with its whole body, and returns it."""
        answer = self.read_head()
        if answer.headers.get("transfer-encoding") == "chunked":
            answer.body = b"".join(self.read_chunks())
        else:
            length = int(answer.headers.get("content-length", "0"))
            while len(self._received) < length:
                self._receive()
            answer.body, self._received = self._received[:length], self._received[length:]
        return answer

    def read_pieces(self, size: int) -> Iterator[bytes]:
        """Reads `size` bytes of a body that has a Content-Length, and yields them in pieces, as they arrive."""
        while size:
            while not self._received:
                self._receive()
            piece, self._received = self._received[:size], self._received[size:]
            size -= len(piece)
            yield piece

    def read_chunks(self) -> Iterator[bytes]:
        """Reads the chunked body of an answer, and yields each chunk as soon as it is complete."""
        while True:
            while b"\r\n" not in self._received:
                self._receive()
            size, self._received = self._received.split(b"\r\n", 1)
            length = int(size, 16)
            while len(self._received) < length + 2:
                self._receive()
            chunk, self._received = self._received[:length], self._received[length + 2 :]
            if not length:
                return
            yield chunk

    def read_to_end(self) -> bytes:
        """Reads until the server closes the connection; returns the bytes that no other method has returned before."""
        while data := self.connection.recv(65536):
            self._received += data
        return self._received

    def _receive(self) -> None:
        data = self.connection.recv(65536)
        if not data:
            raise EOFError(f"the server closed the connection; not read yet: {self._received[:200]!r}")
        self._received += data


@contextmanager
def connect(gateway: Gateway, *, receive_buffer: int | None = None) -> Iterator[Wire]:
    """Opens a connection to the gateway, yields it, and closes it when the block ends.

    `receive_buffer`: the size of the client's receive buffer in bytes; a small one makes it a slow reader.
    """
    with connect_to(gateway.url, receive_buffer=receive_buffer) as wire:
        yield wire


@contextmanager
def connect_to(url: str, *, receive_buffer: int | None = None) -> Iterator[Wire]:
    parts = urlsplit(url)
    with socket.socket() as connection:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE)
        connection.connect((parts.hostname, parts.port))
        yield Wire(connection)


def head(method: str, target: str, *headers: str, length: int | None = None, key: str = SECURITY_KEY) -> bytes:
    """Builds the head of a request as bytes; `key` is its bearer key, and `length` its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def json_call(path: str, body: dict[str, Any], *headers: str) -> bytes:
    """Builds a POST request with a JSON body, head and body as bytes."""
    content = json.dumps(body).encode()
    return head("POST", path, "Content-Type: application/json", *headers, length=len(content)) + content


def in_chunks(*pieces: bytes) -> bytes:
    """Encodes a body in chunks (HTTP's chunked coding): each piece is one chunk, and the end of the body follows."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
