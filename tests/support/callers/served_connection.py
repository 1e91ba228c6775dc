"""Serves a connection by the gateway's HTTP protocol class, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from chatproxy.http.protocol import Protocol
from proxyapi.call.caller_connection import CallerConnection, connection_of

ASKED = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
START: Any = {"type": "http.response.start", "status": 200, "headers": []}
END: Any = {"type": "http.response.body", "body": b""}
Step = Callable[[CallerConnection, Any], Awaitable[None]]


class Line:
    """Stand-in for an asyncio transport: the server's end of a connection, which only records what is written.

    `sent` has all bytes that the server has sent.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.closed = self.paused = self.ended = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def writelines(self, pieces: list[bytes]) -> None:
        self.sent += b"".join(pieces)

    def close(self) -> None:
        self.closed = True

    abort = close

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str) -> None: ...


@asynccontextmanager
async def serving(step: Step) -> AsyncIterator[tuple[Protocol, Line]]:
    """Serves a connection without a socket by the gateway's HTTP protocol, until the block ends.

    Yields the connection and its transport. The application behind the protocol calls `step` for each request.
    """

    async def application(scope: Any, _: Any, send: Any) -> None:
        await step(connection_of(scope), send)

    config = uvicorn.Config(application, lifespan="off", log_level="critical")
    config.load()
    line, state = Line(), ServerState()
    protocol = Protocol(config=config, server_state=state, app_state={})
    protocol.connection_made(cast(asyncio.Transport, line))
    try:
        yield protocol, line
    finally:
        for task in state.tasks:
            task.cancel()
        if not line.closed:
            protocol.connection_lost(None)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def never(*_: object) -> None:
    await asyncio.Event().wait()
