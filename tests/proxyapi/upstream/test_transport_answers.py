"""What upstream sends is read as HTTP/1.1: the answer whole, or a fault that says why not.

Over 300 lines, since it is a table of answers and of how each is read.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from contextlib import suppress

import pytest

from proxyapi.bodies.decoding import MAX_STEP_BYTES
from proxyapi.upstream.exchange import MAX_BUFFERED_BYTES, MAX_HEAD_BYTES, Exchange
from proxyapi.upstream.faults import Broken, ConnectTimeout, Late
from proxyapi.upstream.transport import Transport
from tests.support.polling import PATIENCE
from tests.support.upstreams.raw import OK, Peer, answering, call, raw_upstream, read, silent, transport_to, until

TEXT = b"a text that is long enough to be cut" * 20
BARE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
BARE_TEXT = BARE.compress(TEXT) + BARE.flush()


def packed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)  # each process of pytest-xdist must name the tests alike


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % (len(body) if length is None else length)]
    return b"\r\n".join([*lines, b"", body])


NO_STATUSES = (b"000 No", b"001 No", b"099 No", b"600 No", b"999 No", b"20 No", b"2000 No", b"abc No", b"-20 No", b"")


@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_interim_answers_are_passed_over(byte_by_byte: bool) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in [whole[place : place + 1] for place in range(len(whole))] if byte_by_byte else [whole]:
            peer.send(piece)
            await asyncio.sleep(0)

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert (exchange.status, dict(exchange.headers)) == (200, {"content-length": "2"})
        assert await read(exchange) == b"{}"


async def test_repeated_headers_are_kept_and_trailers_are_not() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    sent = head + b"2;ext=1\r\n{}\r\n0\r\nx-a: 3\r\nx-b: 4\r\n\r\n"
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert await read(exchange) == b"{}"
        assert exchange.headers.getall("x-a") == ["1", "2"]
        assert "x-b" not in exchange.headers


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    sent = b"HTTP/%b 200 OK\r\n\r\n" % version + TEXT
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        assert await read(await call(transport)) == TEXT
        assert not transport._vacant


async def test_an_answer_that_we_cut_is_not_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.left()

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert await exchange.chunk() == b"half"
        await transport.close()
        with pytest.raises(Broken):
            await read(exchange)


async def test_an_end_of_upstreams_side_is_an_end_though_it_takes_no_more() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\n\r\ntoo large")
        peer.writer.write_eof()
        await heard.wait()

    heard = asyncio.Event()
    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport, b"x" * 64 * 1024 * 1024)
        assert (exchange.status, await read(exchange)) == (413, b"too large")
        heard.set()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        OK[:20],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES * 4,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_HEAD_BYTES,
        answer(b"{}", b"content-encoding: br"),
        answer(b"{}", b"content-encoding: gzip, gzip"),
        answer(b"{}", b"content-encoding: identity\r\ncontent-encoding: br"),
        answer(packed(packed(b"{}")), b"content-encoding: gzip\r\ncontent-encoding: gzip"),
        *(answer(b"{}", status=status) for status in NO_STATUSES),
    ],
    ids=lambda sent: sent[:60],
)
async def test_what_is_no_answer_is_broken(sent: bytes) -> None:
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken):
            await call(transport)
        assert not transport._vacant


@pytest.mark.parametrize("status", NO_STATUSES)
async def test_a_status_that_is_none_ends_the_exchange_at_once(status: bytes) -> None:
    """Though upstream keeps the connection open, and says no more."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer(b"{}", status=status))
        await peer.left()

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken):
            await call(transport)
        await until(lambda: upstream.peers[0].gone)
        assert not transport._vacant


async def test_a_fault_says_what_was_wrong() -> None:
    sent = answer(b"{}", b"content-encoding: br")
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken, match="encoded as br"):
            await call(transport)


@pytest.mark.parametrize(
    "sent",
    [
        answer(b"half", length=5),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhalf",
    ],
)
async def test_what_came_of_a_cut_answer_is_given_first(sent: bytes) -> None:
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert await exchange.chunk() == b"half"
        for _ in range(2):
            with pytest.raises(Broken):
                await exchange.chunk()
        exchange.close()
        assert not transport._vacant


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", packed(TEXT)),
        (b"X-GZip", packed(TEXT)),
        (b"gzip", packed(TEXT[:50]) + packed(TEXT[50:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", BARE_TEXT),
        (b"gzip, identity", packed(TEXT)),
        (b"gzip\r\ncontent-encoding: identity", packed(TEXT)),
        (b"identity", TEXT),
        (b"none", TEXT),
        (b"UTF-8", TEXT),
        (b"", TEXT),
    ],
)
async def test_an_encoded_answer_is_decoded(encoding: bytes, body: bytes) -> None:
    head, sent = answer(body, b"content-encoding: " + encoding).split(b"\r\n\r\n", 1)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(head + b"\r\n\r\n")
        for place in range(len(sent)):  # in pieces, wherever they are cut
            peer.send(sent[place : place + 1])
            await asyncio.sleep(0)
        await peer.left()

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        assert await read(await call(transport)) == TEXT
        assert len(transport._vacant) == 1


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
async def test_an_empty_answer_may_say_that_it_is_encoded(status: bytes) -> None:
    sent = answer(b"", b"content-encoding: gzip", status=status)
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        assert await read(await call(transport)) == b""


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", packed(TEXT)[:-1]),
        (b"gzip", packed(TEXT) + packed(TEXT)[:15]),
        (b"gzip", packed(TEXT) + b"more"),
        (b"gzip", TEXT),
        (b"gzip", packed(TEXT)[:-8] + b"\0" * 8),
        (b"deflate", zlib.compress(TEXT)[:-1]),
        (b"deflate", BARE_TEXT[:-1]),
    ],
)
@pytest.mark.parametrize("until_close", [False, True])
async def test_an_encoded_answer_that_is_not_whole_is_broken(encoding: bytes, body: bytes, until_close: bool) -> None:
    sent = answer(body, b"content-encoding: " + encoding)
    if until_close:
        sent = b"HTTP/1.1 200 OK\r\ncontent-encoding: " + encoding + b"\r\n\r\n" + body
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken):
            await read(await call(transport))
        assert not transport._vacant


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
DAMAGED = "its encoded answer is damaged \\(Error -3 while decompressing data: "
FOR_EVER = packed(random.Random(0).randbytes(1024 * 1024))  # so much that it is decoded in several steps


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (answer(b"{}", b"content-encoding: gzip"), f"{DAMAGED}incorrect header check\\)"),
        (answer(packed(TEXT)[:10] + b"\xff" * 9, b"content-encoding: gzip"), f"{DAMAGED}invalid block type\\)"),
        (answer(packed(TEXT)[:-8] + b"\0" * 8, b"content-encoding: gzip"), f"{DAMAGED}incorrect data check\\)"),
        (answer(b"\x08\xff" * 9, b"content-encoding: deflate"), DAMAGED),
        (answer(FOR_EVER[:-8] + b"\0" * 8, b"content-encoding: gzip"), f"{DAMAGED}incorrect data check\\)"),
        (UPGRADE, "it switched to another protocol, which was not asked for$"),
        (UPGRADE + b"\x81\x05Hello", "it switched to another protocol, which was not asked for$"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "its answer breaks HTTP's rules \\(Invalid character in Content-",
        ),
    ],
)
async def test_why_an_answer_cannot_be_read_is_said(sent: bytes, words: str, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken, match=f"^{words}"):
            await read(await call(transport))
    assert not caplog.records


@pytest.mark.parametrize("callback", ["on_message_begin", "on_header", "on_headers_complete", "on_body"])
async def test_an_error_of_the_gateways_own_is_not_told_as_upstreams(
    callback: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = KeyError("ours")

    def fails(*_: object) -> None:
        raise ours

    monkeypatch.setattr(Exchange, callback, fails)
    async with raw_upstream(answering(OK)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Broken, match="the gateway could not read its answer, by an error of its own") as fault:
            await read(await call(transport))
    assert fault.value.__cause__ is ours
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is ours


async def test_upstream_waits_for_a_slow_taker() -> None:
    total, sent, piece = 64 * 1024 * 1024, 0, b"x" * 65536

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            peer.send(piece)
            sent += len(piece)
            await peer.writer.drain()

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        await until(lambda: exchange._buffered > MAX_BUFFERED_BYTES and upstream.peers[0].waits)
        assert sent < total / 2
        first = await exchange.chunk()
        assert MAX_BUFFERED_BYTES < len(first) <= 2 * MAX_BUFFERED_BYTES  # that, and one read more
        assert len(first + await read(exchange)) == total


async def test_no_head_in_time_is_late() -> None:
    async with raw_upstream(silent) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(Late):
            await call(transport, seconds=0.05)
        await until(lambda: upstream.peers[0].gone)


async def test_no_end_in_time_is_late() -> None:
    async with raw_upstream(dripping) as upstream, transport_to(upstream.url) as transport:
        exchange = await call_in_time(transport, 0.05)
        with pytest.raises(Late):
            await read(exchange)
        await until(lambda: all(peer.gone for peer in upstream.peers))


async def test_a_taker_that_is_slower_than_upstream_is_late_too() -> None:
    """There is always something to take; it ends nevertheless, with what had come in time."""
    async with raw_upstream(dripping) as upstream, transport_to(upstream.url) as transport:
        exchange = await call_in_time(transport, 0.05)
        await until(lambda: asyncio.get_running_loop().time() > exchange._deadline and exchange._fault)
        assert await exchange.chunk()
        with pytest.raises(Late):
            await exchange.chunk()
        exchange.close()
        await until(lambda: all(peer.gone for peer in upstream.peers))


async def call_in_time(transport: Transport, seconds: float) -> Exchange:
    """Returns an exchange whose head has come before its time was up; on a busy machine several calls may be needed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(Late, ConnectTimeout):
                return await call(transport, seconds=seconds)


async def dripping(peer: Peer) -> None:
    await peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not peer.writer.is_closing():
        peer.send(b"drop")
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("members", [1, 8])
async def test_a_bomb_is_decoded_as_it_is_taken(members: int) -> None:
    """Never much of it at once, and with turns for other calls between."""
    size = 32 * 1024 * 1024
    sent = answer(gzip.compress(bytes(size // members)) * members, b"content-encoding: gzip")
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        others = asyncio.create_task(count_turns())
        taken = 0
        while piece := await exchange.chunk():
            taken += len(piece)
            assert len(piece) <= MAX_BUFFERED_BYTES + MAX_STEP_BYTES
            assert exchange._buffered <= MAX_BUFFERED_BYTES + MAX_STEP_BYTES
        others.cancel()
    assert taken == size
    assert turns >= size / (MAX_BUFFERED_BYTES + MAX_STEP_BYTES)


async def test_upstream_waits_for_who_does_not_take_what_is_decoded() -> None:
    piece = gzip.compress(bytes(4 * 1024 * 1024))
    total, sent = 40 * 1000, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % (total * len(piece)))
        while sent < total:
            peer.send(piece)
            sent += 1
            await peer.writer.drain()

    async with raw_upstream(script) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        await until(lambda: exchange._buffered > MAX_BUFFERED_BYTES and upstream.peers[0].waits)
        assert sent < total / 2
        assert MAX_BUFFERED_BYTES < exchange._buffered <= MAX_BUFFERED_BYTES + MAX_STEP_BYTES
        exchange.close()


async def test_an_answer_may_end_long_before_it_is_decoded() -> None:
    """Upstream closes the connection meanwhile; what has arrived whole is whole."""
    size = 4 * 1024 * 1024
    body = gzip.compress(bytes(size))
    sent = answer(body, b"content-encoding: gzip", b"connection: close")
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        exchange = await call(transport)
        assert len(await read(exchange)) == size
