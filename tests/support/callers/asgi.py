"""Sends one request to an ASGI application without a socket: shows how much of its body is read, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from tests.support.servers.gateway import PATIENCE

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Asgi:
    """A request to an ASGI application, and the connection that it comes on, both simulated without a socket.

    The request's body comes in `pieces`. After the last piece, the body is complete if `then` is "end", nothing more
    comes if it is "silence", and the client hangs up if it is "departure". `taken` is the number of bytes of the body
    that the application has received.
    """

    takes_bytes = True
    is_trusted_proxy = False

    def __init__(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        pieces: Iterable[bytes] = (),
        then: str = "end",
        client: str = "192.0.2.1",
    ) -> None:
        self._pieces = iter(pieces)
        self._then = then
        self.has_whole_body = False
        self.closes = self.is_known = False
        self.taken = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.answer = b""
        path, _, query = path.partition("?")
        given = {"host": "localhost", "transfer-encoding": "chunked", **(headers or {})}
        self.scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 3002),
            "client": (client, 1234),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value],
            "extensions": {"chatproxy": {"connection": self}},
        }

    async def ask(self, application: Application) -> int:
        """Sends the request to an application, and returns the status of the answer; 0 if no answer comes."""
        async with asyncio.timeout(PATIENCE):
            await application(self.scope, self._receive, self._send)
        return self.status

    async def _receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.has_whole_body:
            await asyncio.Event().wait()  # nobody departs
        if (piece := next(self._pieces, None)) is not None:
            self.taken += len(piece)
            return {"type": "http.request", "body": piece, "more_body": True}
        if self._then == "silence":
            await asyncio.Event().wait()
        if self._then == "departure":
            return {"type": "http.disconnect"}
        self.has_whole_body = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.answer += message.get("body", b"")

    # What the application asks of the connection.

    def mark_known(self) -> None:
        self.is_known = True

    def close_behind_answer(self, *, discard: bool) -> None:
        self.closes = True

    def watch_departure(self, _: Callable[[], None]) -> None: ...

    def forget_departure(self, _: Callable[[], None]) -> None: ...

    def send_whole(self, status: int, lines: bytes, body: bytes) -> bool:
        self.status, self.answer = status, body
        self.headers = dict(line.split(": ", 1) for line in lines.decode().splitlines())
        return True
