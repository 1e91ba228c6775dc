"""Connections are freed by reference counts as soon as they end: the collector of reference cycles runs too rarely.

Each connection that waits for it keeps several KiB: its objects, its last request's headers, a part of its body.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from chatproxy.http.protocol import Protocol
from proxyapi.call.caller_connection import connection_of
from tests.support.upstreams.raw import until

ASKED = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
UNFINISHED = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
UPGRADE = b"POST /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na"
START: Any = {"type": "http.response.start", "status": 200, "headers": []}
END: Any = {"type": "http.response.body", "body": b"end"}


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.freeze()  # what the test does not make need not be looked at
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[tuple[int, list[weakref.ref[Protocol]], ServerState]]:
    """Serves `application`; yields the port, weak references to the connections, and uvicorn's state."""
    config = uvicorn.Config(application, lifespan="off", log_level="critical", timeout_keep_alive=900)
    config.load()
    opened: list[weakref.ref[Protocol]] = []
    state = ServerState()

    def make() -> Protocol:
        protocol = Protocol(config=config, server_state=state, app_state={})
        opened.append(weakref.ref(protocol))
        return protocol

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], opened, state
    finally:
        server.close()


async def answer(scope: Any, _: Any, send: Any) -> None:
    connection_of(scope).mark_known()  # so that it may stay open for long
    await send(START)
    await send(END)


async def answer_unread(scope: Any, _: Any, send: Any) -> None:
    connection_of(scope).close_behind_answer(discard=False)
    await send(START)
    await send(END)


async def stream_until_departure(scope: Any, _: Any, send: Any) -> None:
    gone = asyncio.Event()
    connection = connection_of(scope)
    connection.watch_departure(gone.set)
    try:
        await send(START)
        connection.send_now(b"piece")
        await gone.wait()
    finally:
        connection.forget_departure(gone.set)


async def wait_for_the_body(_: Any, receive: Any, __: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    ("application", "asked"),
    [
        (answer, b""),
        (answer, b"GET /1 HT"),
        (answer, b"\0"),
        (answer, ASKED),
        (answer, ASKED * 3),
        (answer, UPGRADE),
        (answer, UNFINISHED),
        (answer_unread, UNFINISHED),
        (stream_until_departure, ASKED),
        (stream_until_departure, ASKED * 3),
        (wait_for_the_body, UNFINISHED),
    ],
)
async def test_a_connection_is_freed_when_it_ends(application: Any, asked: bytes) -> None:
    async with served(application) as (port, opened, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked)
        if asked and application is not wait_for_the_body and asked != b"GET /1 HT":
            await reader.read(1)
        await until(lambda: len(opened) == 1)
        writer.transport.abort()
        await until(lambda: opened[0]() is None and not state.tasks)


async def test_a_call_learns_of_a_departure_before_it_asked() -> None:
    left = asyncio.Event()

    async def application(scope: Any, _: Any, send: Any) -> None:
        connection = connection_of(scope)
        await until(lambda: connection.has_whole_body)  # nothing more will come
        connection.watch_departure(left.set)
        connection.answer_until_close()
        connection.close_behind_answer(discard=True)
        assert not connection.send_now(b"piece")
        await send(START)
        await send(END)

    async with served(application) as (port, opened, state):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UNFINISHED)
        await until(lambda: bool(state.tasks))
        writer.transport.abort()
        await until(lambda: left.is_set() and opened[0]() is None and not state.tasks)
