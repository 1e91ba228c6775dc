"""The framing around a request's content is bounded, and strangers' bytes are read in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatproxy.http.protocol import Protocol
from chatproxy.http.request_reader import MAX_HEADERS
from proxyapi.call.caller_connection import CallerConnection
from tests.support.callers.served_connection import ASKED, END, START, never, serving, turns


@pytest.mark.parametrize("in_one_read", [False, True])
async def test_a_head_has_a_bounded_number_of_lines(*, in_one_read: bool) -> None:
    async with serving(never) as (protocol, line):
        lines = b"a:\r\n" * 10_000
        for piece in [ASKED[:-2] + lines] if in_one_read else [ASKED[:-2], lines, lines]:
            protocol.data_received(piece)
        await turns()
        assert line.sent.startswith(b"HTTP/1.1 400 ")
        assert b"headers" in line.sent
        assert line.closed
        assert len(protocol.headers) == MAX_HEADERS + 1


async def test_as_many_headers_as_any_client_sends_are_taken() -> None:
    async def step(_: CallerConnection, send: Any) -> None:
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received((ASKED[:-2] + b"a:\r\n" * (MAX_HEADERS - 1) + b"\r\n") * 2)
        await turns()
        await turns()
        assert line.sent.count(b"HTTP/1.1 200 OK") == 2


CHUNKED = b"POST /2 HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "more"),
    [
        pytest.param(b"1\r\n{\r\n0\r\n", b"a:\r\n" * 10_000, id="trailers"),
        pytest.param(b"1\r\n{\r\n0\r\na:", b"b" * 40_000, id="a long trailer"),
        pytest.param(b"1;", b"e" * 40_000, id="a long extension"),
        pytest.param(b"", b"1\r\na\r\n" * 10_000, id="chunks of a byte"),
    ],
)
async def test_frames_without_content_are_refused(first: bytes, more: bytes) -> None:
    async with serving(never) as (protocol, line):
        protocol.data_received(CHUNKED + first)
        await turns()
        for _ in range(3):
            protocol.data_received(more)
            await turns(20)  # it is read piece by piece
        assert line.sent.startswith(b"HTTP/1.1 400 ")
        assert line.closed
        assert len(protocol.headers) == 2


async def test_strangers_who_send_at_once_are_read_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes from many connections at the same moment block the event loop for one piece at a time only."""
    reads: list[Protocol] = []
    read = Protocol._read

    def counted(protocol: Protocol, data: bytes) -> None:
        reads.append(protocol)
        read(protocol, data)

    monkeypatch.setattr(Protocol, "_read", counted)
    async with serving(never) as (one, its_line), serving(never) as (other, others_line):
        for protocol in (one, other):
            protocol.data_received(CHUNKED + b"1\r\na\r\n" * 4000)
        counts = []
        for _ in range(50):
            before = len(reads)
            await asyncio.sleep(0)
            counts.append(len(reads) - before)
        assert its_line.closed  # refused in the end
        assert others_line.closed
        assert max(counts) == 1
        assert reads[:4] == [one, other, one, other]


async def test_small_chunks_of_whoever_has_shown_a_key_are_taken() -> None:
    async def step(connection: CallerConnection, _: Any) -> None:
        connection.mark_known()
        await never()

    async with serving(step) as (protocol, line):
        protocol.data_received(CHUNKED)
        await turns()
        for _ in range(30):
            protocol.data_received(b"a\r\n0123456789\r\n" * 1000)
            protocol.cycle.body.clear()
        assert not line.sent
        assert not line.closed


async def test_a_trailer_is_dropped() -> None:
    async def step(_: CallerConnection, send: Any) -> None:
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(CHUNKED + b"1\r\n{\r\n0\r\nhost: b\r\nauthorization: Bearer x\r\n\r\n")
        assert [name for name, _ in protocol.headers] == [b"host", b"transfer-encoding"]
        await turns()
        protocol.data_received(ASKED)
        await turns()
        assert line.sent.count(b"HTTP/1.1 200 OK") == 2
