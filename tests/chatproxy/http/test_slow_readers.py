"""A client that takes no bytes of its answer is dropped; one that takes the answer slowly gets all of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from chatproxy.http import protocol as protocol_module
from chatproxy.http import slow_readers
from chatproxy.http.connections import Connections
from chatproxy.http.protocol import Protocol
from proxyapi.call.caller_connection import connection_of
from tests.support.servers.gateway import PATIENCE
from tests.support.upstreams.raw import until

MIB = 1024 * 1024
SIZE = 16 * MIB  # more than the sockets of both ends hold
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Application = Callable[[Any, Any, Any], Awaitable[None]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "STALL_SECONDS", 0.6)


class Server:
    """A server of the test: `protocols` are its connections, `refusals` the reasons that it has counted."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.protocols: list[Protocol] = []
        self.refusals: list[str] = []


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[Server]:
    """Runs a server with the real protocol, on sockets with small buffers."""
    config = uvicorn.Config(application, lifespan="off", log_level="critical", timeout_keep_alive=900)
    config.load()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    server = Server(listener.getsockname()[1])
    state, connections = ServerState(), Connections(count_refusal=server.refusals.append)

    def accept() -> Protocol:
        made = Protocol(config=config, server_state=state, app_state={}, connections=connections)
        server.protocols.append(made)
        return made

    running = await asyncio.get_running_loop().create_server(accept, sock=listener)
    try:
        yield server
    finally:
        running.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[socket.socket]:
    """Opens a client that has sent its request and reads nothing yet."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, ASK)
        yield client


async def is_dropped(server: Server) -> None:
    """Waits until the server has no connection left."""
    await until(lambda: bool(server.protocols) and all(one.is_lost for one in server.protocols))


async def plain(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % SIZE)]})
    await send({"type": "http.response.body", "body": bytes(SIZE)})


async def error(_: Any, __: Any, send: Any) -> None:
    headers = [(b"content-length", b"%d" % SIZE), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(SIZE)})


async def pieces(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(SIZE // 65536):
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def events(scope: Any, _: Any, send: Any) -> None:
    """An application that sends events as a relay does: at once if the client takes them, else by a call that waits."""
    connection = connection_of(scope)
    connection.mark_known()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(SIZE // 65536):
        if not connection.send_now(bytes(65536)):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("answer", [plain, error, pieces, events])
async def test_whoever_takes_nothing_is_dropped(answer: Application) -> None:
    async with serving(answer) as server, asking(server):
        await is_dropped(server)
    assert server.refusals == ["slow_reader"]


async def test_the_call_hears_of_it() -> None:
    left = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        connection_of(scope).watch_departure(left.set)
        await events(scope, receive, send)

    async with serving(stream) as server, asking(server):
        async with asyncio.timeout(PATIENCE):
            await left.wait()


async def test_the_rest_of_an_answer_keeps_no_closed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few bytes to pause writing: the connection is closed after its idle time, and the rest must be taken then."""
    monkeypatch.setattr(protocol_module, "STRANGER_KEEPALIVE_SECONDS", 0.05)

    async def little(scope: Any, _: Any, send: Any) -> None:
        connection = connection_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not server.protocols[0].transport.get_write_buffer_size():
            assert connection.send_now(bytes(1024))
        await send({"type": "http.response.body", "body": b""})

    async with serving(little) as server, asking(server):
        await is_dropped(server)


@pytest.mark.parametrize("answer", [plain, events])
async def test_whoever_takes_it_slowly_gets_all_of_it(answer: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer takes several times as long as the client may take no bytes at all."""
    loop, size = asyncio.get_running_loop(), 0
    async with serving(answer) as server, asking(server) as client:
        began = loop.time()
        async with asyncio.timeout(PATIENCE):
            while size < SIZE and (piece := await loop.sock_recv(client, MIB)):
                size += len(piece)
                if loop.time() - began < 3 * slow_readers.STALL_SECONDS:
                    await asyncio.sleep(0.02)
        assert loop.time() - began > 2 * slow_readers.STALL_SECONDS
    assert size >= SIZE
    assert server.refusals == []


async def test_a_strangers_trickle_is_not_taking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "MIN_STRANGER_BYTES_PER_SECOND", 100 * MIB)
    loop = asyncio.get_running_loop()
    async with serving(plain) as server, asking(server) as client:
        dropped = asyncio.create_task(is_dropped(server))
        while not dropped.done():
            try:
                await loop.sock_recv(client, 64 * 1024)
            except ConnectionError:
                break
            await asyncio.sleep(0.05)
        await dropped
    assert server.refusals == ["slow_reader"]


async def test_an_ordinary_answer_starts_no_clock() -> None:
    async def short(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async with serving(short) as server, asking(server) as client:
        assert (await asyncio.get_running_loop().sock_recv(client, 65536)).startswith(b"HTTP/1.1 200")
        assert server.protocols[0]._stall_watch._timer is None


@pytest.mark.parametrize("known", [False, True])
async def test_only_who_has_shown_a_key_may_be_idle_for_long(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "STRANGER_KEEPALIVE_SECONDS", 0.05)

    async def short(scope: Any, _: Any, send: Any) -> None:
        if known:
            connection_of(scope).mark_known()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(short) as server, asking(server) as client:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client, 65536)
        closes = asyncio.create_task(loop.sock_recv(client, 1))
        if known:
            await asyncio.wait({closes}, timeout=0.5)
            assert not closes.done()
            closes.cancel()
        else:
            assert await asyncio.wait_for(closes, PATIENCE) == b""


class Large:
    """An application with answers of 1 MiB; `started` counts its calls."""

    def __init__(self) -> None:
        self.started = 0

    async def __call__(self, _: Any, __: Any, send: Any) -> None:
        self.started += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % MIB)]})
        await send({"type": "http.response.body", "body": bytes(MIB)})


async def test_answers_that_nobody_takes_do_not_pile_up() -> None:
    """However many requests wait on a connection, the next call starts once the answers before it have left."""
    large, loop, size = Large(), asyncio.get_running_loop(), 0
    async with serving(large) as server, asking(server) as client:
        await loop.sock_sendall(client, ASK * 7)
        await until(lambda: server.protocols and server.protocols[0].flow.write_paused)
        await loop.sock_sendall(client, ASK * 8)  # behind one that has been answered, and not taken
        (one,) = server.protocols
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert one.transport.get_write_buffer_size() < 2 * MIB
        assert large.started == 1
        async with asyncio.timeout(PATIENCE):
            while size < 16 * MIB and (piece := await loop.sock_recv(client, MIB)):
                size += len(piece)
                assert one.transport.get_write_buffer_size() < 2 * MIB
    assert large.started == 16


async def test_a_request_without_pipelining_waits_as_well() -> None:
    large = Large()
    async with serving(large) as server, asking(server) as client:
        await until(lambda: large.started == 1 and server.protocols[0].cycle.response_complete)
        await asyncio.get_running_loop().sock_sendall(client, ASK)
        await until(lambda: len(server.protocols[0].pipeline) == 1)
        assert large.started == 1
