"""A connection to upstream is used again exactly when nothing of the last exchange can be on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import uvloop

from proxyapi.upstream.transport import VACANT_SECONDS, Transport
from tests.support.polling import PATIENCE
from tests.support.upstreams.raw import OK, Peer, answering, call, polite, raw_upstream, read, transport_to, until

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


async def read_one(transport: Transport) -> bytes:
    return await read(await call(transport))


async def test_it_works() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)  # as in the server
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        assert [await read_one(transport) for _ in range(3)] == [b"{}"] * 3
        assert len(upstream.peers) == 1


async def test_two_calls_at_once_use_two() -> None:
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        one, other = await call(transport), await call(transport)
        assert [await read(one), await read(other)] == [b"{}"] * 2
        await read_one(transport)
        assert len(upstream.peers) == 2


@pytest.mark.parametrize(("seconds", "opened"), [(VACANT_SECONDS - 5, 1), (VACANT_SECONDS + 1, 2)])
async def test_one_that_has_waited_too_long_is_not_used(seconds: float, opened: int) -> None:
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        await read_one(transport)
        transport._vacant[0].vacant_since -= seconds

        assert await read_one(transport) == b"{}"

        assert len(upstream.peers) == opened
        await until(lambda: len(transport._open) == 1)


async def test_one_that_upstream_closed_is_not_used() -> None:
    async with raw_upstream(answering(OK)) as upstream, transport_to(upstream.url) as transport:
        await read_one(transport)
        await until(lambda: not transport._open)
        assert await read_one(transport) == b"{}"
        assert len(upstream.peers) == 2


async def test_one_that_is_closing_is_not_used() -> None:
    """Between the end of a connection and its loss there is a turn of the loop."""
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        await read_one(transport)
        transport._vacant[0].close()
        assert await read_one(transport) == b"{}"
        assert len(upstream.peers) == 2


@pytest.mark.parametrize("unasked", [b"", OK])
async def test_one_on_which_something_came_while_the_loop_was_busy_is_not_used(unasked: bytes) -> None:
    """Upstream closes it, or sends one more answer, and the next call begins before the event loop has seen that."""

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as first:
            first.recv(65536)
            first.sendall(OK)
            is_vacant.wait(PATIENCE)
            if unasked:
                first.sendall(unasked)
            else:
                first.shutdown(socket.SHUT_RDWR)
            has_come.set()
        with server.accept()[0] as second:
            second.recv(65536)
            second.sendall(OK.replace(b"{}", b"[]"))

    is_vacant, has_come = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        async with transport_to(f"http://127.0.0.1:{server.getsockname()[1]}/v1") as transport:
            assert await read_one(transport) == b"{}"
            is_vacant.set()
            assert has_come.wait(PATIENCE)  # the event loop stands still meanwhile
            assert await read_one(transport) == b"[]"
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (OK, True),
        (CHUNKED, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", True),
        (OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1), False),
        (CHUNKED.replace(b"\r\n", b"\r\nConnection: foo, Close\r\n", 1), False),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    ],
)
async def test_only_what_http_lets_live_is_kept(answer: bytes, kept: bool) -> None:
    async with raw_upstream(answering(answer, OK)) as upstream, transport_to(upstream.url) as transport:
        await read_one(transport)
        assert len(transport._vacant) == kept
        await read_one(transport)
        assert len(upstream.peers) == (1 if kept else 2)


@pytest.mark.parametrize("first", [OK, CHUNKED])
@pytest.mark.parametrize("more", [OK, OK[:10], b"HTTP/1.1 100 Continue\r\n\r\n", b"junk", b"\0"])
async def test_bytes_behind_an_answer_are_not_the_next_calls(first: bytes, more: bytes) -> None:
    async with raw_upstream(answering(first + more, OK)) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert (exchange.status, len(exchange.headers), await read(exchange)) == (200, 1, b"{}")
        assert not transport._vacant
        assert await read_one(transport) == b"{}"
        assert len(upstream.peers) == 2


async def test_bytes_that_nobody_asked_for_close_it() -> None:
    async def talkative(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await asked_for.wait()
        peer.send(OK)
        closed.set_result(await peer.left())

    asked_for, closed = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with raw_upstream(talkative) as upstream, transport_to(upstream.url) as transport:
        await read_one(transport)
        asked_for.set()
        assert await closed == b""
        await until(lambda: not transport._open)


async def test_an_answer_that_was_not_read_closes_it() -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        peer.send(OK.replace(b": 2", b": 3"))
        closed.set_result(await peer.left())

    closed = asyncio.get_running_loop().create_future()
    async with raw_upstream(endless) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert await exchange.chunk() == b"{}"
        exchange.close()
        exchange.close()  # once more does nothing
        assert await closed == b""
        assert not transport._vacant


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_before_the_uploads_end_closes_it(fails: bool) -> None:
    async def hasty(peer: Peer) -> None:
        await peer.head()
        peer.send(OK)
        closed.set_result(await peer.left())

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        try:
            await answered.wait()
            if fails:
                raise ValueError
            await asyncio.Event().wait()
        finally:
            ended.set()

    answered, ended, closed = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()
    async with raw_upstream(hasty) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport, pieces())
        assert await exchange.chunk() == b"{}"
        assert await exchange.chunk() == b""
        if fails:
            answered.set()
            await ended.wait()
            await asyncio.sleep(0)
        exchange.close()
        await ended.wait()
        assert await closed in {b"", b"3\r\none\r\n"}
        assert not transport._vacant


async def test_an_answer_before_a_whole_bodys_end_closes_it() -> None:
    """Its bytes still wait here; upstream, which did not, may close without reading them."""

    async def hasty(peer: Peer) -> None:
        await peer.head()
        peer.send(OK)
        await read_it.wait()
        with contextlib.suppress(asyncio.IncompleteReadError):
            closed.set_result(await peer.left())

    read_it, closed = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with raw_upstream(hasty) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport, b"x" * 64 * 1024 * 1024)
        assert await read(exchange) == b"{}"
        assert not transport._vacant
        read_it.set()
        assert len(await closed) < 64 * 1024 * 1024


async def test_closing_the_transport_closes_all() -> None:
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        one, other = await call(transport), await call(transport)
        await read(one)
        await transport.close()
        await until(lambda: not transport._open)
        other.close()
        assert not transport._vacant
