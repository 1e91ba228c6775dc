"""What goes up is one request, framed as it says, and nothing of it goes on when its call has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxyapi.upstream.exchange import Body, Exchange
from proxyapi.upstream.faults import Broken
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.transport import Transport
from tests.support.servers.gateway import PATIENCE
from tests.support.upstreams.raw import (
    OK,
    Peer,
    RawUpstream,
    Received,
    Script,
    call,
    polite,
    raw_upstream,
    read,
    silent,
    transport_to,
    until,
)


class Refused(Exception):
    """What the source of an upload raises."""


async def seen(method: str, body: Body, target: str = "/x?a=1", **headers: str) -> Received:
    """The request, as upstream gets it."""

    async def script(peer: Peer) -> None:
        received.set_result(await peer.request())
        peer.send(OK)
        await peer.left()

    received: asyncio.Future[Received | None] = asyncio.get_running_loop().create_future()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        await read(await transport.open(method, target, Headers(headers), body, deadline))
        assert len(transport._vacant) == 1
        request = received.result()
        assert request is not None
        assert request.headers.pop("host") == f"127.0.0.1:{upstream.port}"
        return request


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
        await asyncio.sleep(0)


async def test_a_body_says_its_length() -> None:
    assert await seen("POST", b"{}", **{"X-Y": "z"}) == Received(
        "POST /v1/x?a=1 HTTP/1.1", {"x-y": "z", "content-length": "2"}, b"{}"
    )


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("DELETE", {}), ("POST", {"content-length": "0"})])
async def test_no_body(method: str, headers: dict[str, str]) -> None:
    assert await seen(method, None) == Received(f"{method} /v1/x?a=1 HTTP/1.1", headers)


async def test_an_upload_goes_in_chunks() -> None:
    """An empty piece is not the end of it."""
    received = await seen("POST", pieces(b"one", b"", b"x" * 17))
    assert received.headers == {"transfer-encoding": "chunked"}
    assert received.body == b"3\r\none\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"


async def test_an_upload_that_knows_its_length_goes_as_it_is() -> None:
    received = await seen("POST", pieces(b"one", b"two"), **{"Content-Length": "6"})
    assert (received.headers, received.body) == ({"content-length": "6"}, b"onetwo")


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\r\n", "a\r\n\r\nb"])
async def test_a_header_that_would_be_more_than_one_is_not_sent(text: str) -> None:
    async with raw_upstream(polite) as upstream, transport_to(upstream.url) as transport:
        for headers in ({"Authorization": text}, {text: "value"}):
            with pytest.raises(ValueError, match=r"^a header or .* has a line break or a zero byte"):
                await call(transport, headers=headers)
        for target, words in (
            (f"/{text}".replace(" ", ""), "a line break or a zero byte"),
            ("/a b", "target .* a space"),
        ):
            with pytest.raises(ValueError, match=words):
                await transport.open("GET", target, Headers(), None, asyncio.get_running_loop().time() + PATIENCE)
        assert not upstream.peers


async def test_an_upload_waits_for_upstream() -> None:
    taken = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1024):
            taken += 1
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.head()
        await may_read.wait()
        await peer.reader.readuntil(b"\r\n0\r\n\r\n")
        peer.send(OK)

    may_read = asyncio.Event()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        calling = asyncio.create_task(call(transport, large()))
        before = -1
        while not taken or before < taken:  # until it waits
            before = taken
            await asyncio.sleep(0.05)
        assert 0 < taken < 512
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        may_read.set()


@pytest.mark.parametrize("head_first", [False, True])
async def test_what_an_uploads_source_raises_ends_the_call(head_first: bool) -> None:
    refused = Refused()

    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        await go_on.wait()
        raise refused

    async def use(exchange: Exchange) -> None:
        assert await exchange.chunk() == b"half"
        go_on.set()
        await read(exchange)

    async def script(peer: Peer) -> None:
        await peer.head()
        if head_first:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        else:
            go_on.set()
        closed.set_result(await peer.left())

    go_on, closed = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Refused) as raised:
            await use(await call(transport, failing()))
        assert raised.value is refused
        assert not (await closed).endswith(b"0\r\n\r\n")  # so upstream cannot take it for whole
        assert not transport._vacant


async def test_an_answer_may_come_before_the_uploads_end() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"one"
        await answered.wait()
        yield b"two"

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
        peer.send(await peer.reader.readuntil(b"0\r\n\r\n"))
        await peer.left()

    answered = asyncio.Event()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport, slow())
        answered.set()
        assert await exchange.chunk() + await read(exchange) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"[:20]


async def test_an_upload_to_upstream_that_went_away_ends() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def script(peer: Peer) -> None:
        await peer.head()

    tasks = asyncio.all_tasks()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken):
            await call(transport, endless())
    await until(lambda: asyncio.all_tasks() == tasks)


async def stuck() -> AsyncIterator[bytes]:
    yield b"one"
    await asyncio.Event().wait()


async def whole(transport: Transport, body: Body) -> Exchange:
    """As the gateway does: whoever has the exchange closes it."""
    exchange = await call(transport, body)
    await read(exchange)
    return exchange


async def half(peer: Peer) -> None:
    await peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf")
    await peer.left()


@pytest.mark.parametrize("script", [silent, half])
@pytest.mark.parametrize("kind", ["whole", "large", "upload"])
async def test_a_cancelled_call_closes_its_connection(script: Script, kind: str) -> None:
    def is_under_way(upstream: RawUpstream) -> bool:
        return bool(upstream.peers) and bool(transport._open)

    bodies: dict[str, Body] = {"whole": b"{}", "large": b"x" * 2**26, "upload": stuck()}
    tasks = asyncio.all_tasks()
    async with raw_upstream(script) as upstream:
        async with transport_to(upstream.url) as transport:
            calling = asyncio.create_task(whole(transport, bodies[kind]))
            await until(lambda: is_under_way(upstream))
            for _ in range(20):
                await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await until(lambda: not transport._open)
            assert not transport._vacant
        await until(lambda: upstream.peers[0].gone)
    await until(lambda: asyncio.all_tasks() == tasks)


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_cancelled_at_any_turn_leaves_nothing(turns: int) -> None:
    tasks = asyncio.all_tasks()
    async with raw_upstream(half) as upstream, transport_to(upstream.url) as transport:
        calling = asyncio.create_task(whole(transport, stuck()))
        for _ in range(turns):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: not transport._open and all(peer.gone for peer in upstream.peers))
        assert not transport._vacant
    await until(lambda: asyncio.all_tasks() == tasks)
