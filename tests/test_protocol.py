"""HTTP at the socket, without one: what a call may ask of its connection, and what comes behind a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from chatproxy import protocol as protocol_module
from chatproxy.protocol import MAX_HEADERS, MOST_QUEUED, Protocol
from proxyapi.connection import Connection, connection_of

ASKED = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
START: Any = {"type": "http.response.start", "status": 200, "headers": []}
END: Any = {"type": "http.response.body", "body": b""}
Step = Callable[[Connection, Any], Awaitable[None]]


class Line:
    """The transport at the server's end; `sent` is what has left."""

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
    """A connection to an application that does `step` with each call."""

    async def application(scope: Any, _: Any, send: Any) -> None:
        await step(connection_of(scope), send)

    config = uvicorn.Config(application, lifespan="off", log_level="critical")
    config.load()
    line, state = Line(), ServerState()
    protocol = Protocol(config=config, server_state=state, app_state={})
    protocol.connection_made(line)
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


async def test_a_piece_leaves_at_once() -> None:
    said: list[bool] = []

    async def step(connection: Connection, send: Any) -> None:
        said.append(connection.send_now(b"too early"))
        await send(START)
        said.append(connection.send_now(b"piece of it"))
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        assert said == [False, True]
        assert line.sent.endswith(b"\r\n\r\nb\r\npiece of it\r\n0\r\n\r\n")


async def pause(protocol: Protocol, _: Line) -> None:
    protocol.pause_writing()


async def hang_up(protocol: Protocol, line: Line) -> None:
    line.closed = True
    protocol.connection_lost(None)


async def nothing(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("asked", "headers", "then"),
    [
        pytest.param(ASKED, [], pause, id="the caller takes nothing"),
        pytest.param(ASKED, [], hang_up, id="the caller has left"),
        pytest.param(ASKED, [(b"content-length", b"5")], nothing, id="the answer has a length"),
        pytest.param(ASKED.replace(b"GET", b"HEAD"), [], nothing, id="HEAD"),
    ],
)
async def test_a_piece_that_would_wait_or_needs_more_thought_is_not_sent(asked: bytes, headers: Any, then: Any) -> None:
    said: list[bool] = []
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def step(connection: Connection, send: Any) -> None:
        await send({**START, "headers": headers})
        begun.set()
        await may_go_on.wait()
        said.append(connection.send_now(b"piece"))

    async with serving(step) as (protocol, line):
        protocol.data_received(asked)
        await begun.wait()
        before = line.sent
        await then(protocol, line)
        may_go_on.set()
        await turns()
        assert (said, line.sent) == ([False], before)


async def test_an_empty_piece_does_not_end_the_answer() -> None:
    async def step(connection: Connection, send: Any) -> None:
        await send(START)
        assert connection.send_now(b"")
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        assert line.sent.count(b"0\r\n\r\n") == 1


@pytest.mark.parametrize("queued", [0, 1])
@pytest.mark.parametrize("begun", [False, True])
async def test_nonsense_behind_a_request_does_not_take_its_answer(begun: bool, queued: int) -> None:
    """The requests before it are answered, then the connection ends; nothing that comes later is looked at."""
    may_go_on = asyncio.Event()

    async def step(_: Connection, send: Any) -> None:
        if begun:
            await send(START)
        await may_go_on.wait()
        if not begun:
            await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED * (1 + queued))
        await turns()
        for _ in range(3):
            protocol.data_received(b"nonsense\r\n\r\n")
        may_go_on.set()
        await turns()
        assert line.sent.count(b"HTTP/1.1 200 OK") == line.sent.count(b"0\r\n\r\n") == 1 + queued
        assert b"HTTP/1.1 400" not in line.sent
        assert line.closed


BAD_CHUNK = b"POST /2 HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n"


@pytest.mark.parametrize("queued", [0, 1])
async def test_a_queued_body_that_is_nonsense_takes_no_answer(queued: int) -> None:
    may_go_on = asyncio.Event()

    async def step(connection: Connection, send: Any) -> None:
        await send(START)
        await may_go_on.wait()
        assert connection.send_now(b"piece")
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED * (1 + queued))
        await turns()
        protocol.data_received(BAD_CHUNK)
        may_go_on.set()
        await turns()
        assert line.sent.count(b"HTTP/1.1") == line.sent.count(b"piece\r\n0\r\n\r\n") == 1 + queued
        assert line.closed


async def test_a_body_that_is_nonsense_is_refused_at_once() -> None:
    async with serving(never) as (protocol, line):
        protocol.data_received(BAD_CHUNK)
        await turns()
        assert line.sent.startswith(b"HTTP/1.1 400 ")
        assert line.closed


async def never(*_: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("junk", [b"}", b"nonsense\r\n\r\n", b"GET / HT"])
async def test_an_answer_that_takes_long_is_not_cut_for_what_came_behind_it(
    monkeypatch: pytest.MonkeyPatch, junk: bytes
) -> None:
    monkeypatch.setattr(protocol_module, "HEAD_SECONDS", 0.02)

    async def step(_: Connection, send: Any) -> None:
        await send(START)
        await asyncio.sleep(0.1)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        protocol.data_received(junk)
        await asyncio.sleep(0.2)
        assert line.sent.endswith(b"0\r\n\r\n")


async def test_empty_lines_keep_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "HEAD_SECONDS", 0.02)

    async def step(_: Connection, send: Any) -> None:
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        protocol.data_received(b"\r\n")
        await asyncio.sleep(0.1)
        assert line.closed


async def test_a_hang_up_is_seen_though_another_request_waits() -> None:
    left: list[str] = []

    async def step(connection: Connection, _: Any) -> None:
        connection.watch_departure(lambda: left.append("gone"))
        await asyncio.Event().wait()

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        for _ in range(MOST_QUEUED - 1):
            protocol.data_received(ASKED)
            assert not line.paused  # else nobody would see it
        protocol.data_received(ASKED)
        assert line.paused  # nobody may ask without end
        await hang_up(protocol, line)
        assert left == ["gone"]


# --- an answer in front of a body that is left unread


BODY = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.mark.parametrize("discard", [True, False])
async def test_a_connection_with_an_unread_body_ends_behind_its_answer(
    monkeypatch: pytest.MonkeyPatch, discard: bool
) -> None:
    monkeypatch.setattr(protocol_module, "MAX_DISCARDED_BYTES", 100)
    asked = 0

    async def step(connection: Connection, send: Any) -> None:
        nonlocal asked
        asked += 1
        connection.close_behind_answer(discard=discard)
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(BODY)
        await turns()
        assert b"connection: close\r\n" in line.sent
        assert line.ended
        assert not line.closed
        assert line.paused is not discard
        protocol.data_received(b"0\r\n\r\n" + ASKED)
        await turns()
        assert asked == 1
        assert line.closed is not discard
        if discard:
            protocol.data_received(bytes(101))
        assert line.closed


async def test_a_connection_with_an_unread_body_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "LINGER_SECONDS", 0.0)

    async def step(connection: Connection, send: Any) -> None:
        connection.close_behind_answer(discard=False)
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(BODY)
        await turns()
        assert line.closed


@pytest.mark.parametrize("answers", [True, False])
async def test_a_connection_that_ends_keeps_nothing_of_a_body(answers: bool) -> None:
    """It is part of a circle, and the collector comes seldom: bodies left unread would fill the memory meanwhile."""

    async def step(connection: Connection, send: Any) -> None:
        if not answers:
            await asyncio.Event().wait()
        connection.close_behind_answer(discard=False)
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(BODY + b"10000\r\n" + bytes(0x10000))
        cycle = protocol.cycle
        await turns(20)
        if not answers:
            assert len(cycle.body) > 0x10000
            line.close()
            protocol.connection_lost(None)
        assert cycle.body == b""


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
    async def step(_: Connection, send: Any) -> None:
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


async def test_small_chunks_of_whoever_has_shown_a_key_are_taken() -> None:
    async def step(connection: Connection, _: Any) -> None:
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
    async def step(_: Connection, send: Any) -> None:
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(CHUNKED + b"1\r\n{\r\n0\r\nhost: b\r\nauthorization: Bearer x\r\n\r\n")
        assert [name for name, _ in protocol.headers] == [b"host", b"transfer-encoding"]
        await turns()
        protocol.data_received(ASKED)
        await turns()
        assert line.sent.count(b"HTTP/1.1 200 OK") == 2
