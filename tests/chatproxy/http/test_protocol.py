"""The protocol without a socket: what a call may ask of its connection, and bytes that follow a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatproxy.http import protocol as protocol_module
from chatproxy.http import request_reader
from chatproxy.http.protocol import Protocol
from chatproxy.http.request_reader import MAX_QUEUED_REQUESTS
from proxyapi.call.caller_connection import CallerConnection
from tests.support.callers.served_connection import ASKED, END, START, Line, never, serving, turns
from tests.support.upstreams.raw import until


async def test_a_piece_leaves_at_once() -> None:
    said: list[bool] = []

    async def step(connection: CallerConnection, send: Any) -> None:
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

    async def step(connection: CallerConnection, send: Any) -> None:
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


async def answer_at_once(_: CallerConnection, send: Any) -> None:
    await send(START)
    await send(END)


async def test_an_empty_piece_does_not_end_the_answer() -> None:
    async def step(connection: CallerConnection, send: Any) -> None:
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
    """Invalid bytes after a request: the requests before them are answered, then the connection ends."""
    may_go_on = asyncio.Event()

    async def step(_: CallerConnection, send: Any) -> None:
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

    async def step(connection: CallerConnection, send: Any) -> None:
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


@pytest.mark.parametrize("junk", [b"nonsense\r\n\r\n", BAD_CHUNK])
@pytest.mark.parametrize("waiting", [1, 2])
async def test_nonsense_takes_no_answer_of_a_request_that_waits_for_a_slow_reader(waiting: int, junk: bytes) -> None:
    """The requests wait although none is running, since the client has not read the answers before them."""
    async with serving(answer_at_once) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        protocol.pause_writing()
        protocol.data_received(ASKED * waiting)
        protocol.data_received(junk)
        await turns()
        assert line.sent.count(b"HTTP/1.1") == 1
        protocol.resume_writing()
        await turns(20)
        assert line.sent.count(b"HTTP/1.1 200 OK") == line.sent.count(b"HTTP/1.1") == 1 + waiting
        assert line.closed


async def test_a_body_that_is_nonsense_is_refused_at_once() -> None:
    async with serving(never) as (protocol, line):
        protocol.data_received(BAD_CHUNK)
        await turns()
        assert line.sent.startswith(b"HTTP/1.1 400 ")
        assert line.closed


@pytest.mark.parametrize("junk", [b"}", b"nonsense\r\n\r\n", b"GET / HT"])
async def test_an_answer_that_takes_long_is_not_cut_for_what_came_behind_it(
    monkeypatch: pytest.MonkeyPatch, junk: bytes
) -> None:
    monkeypatch.setattr(request_reader, "HEAD_SECONDS", 0.0)  # over within the next turn of the loop
    may_end = asyncio.Event()

    async def step(_: CallerConnection, send: Any) -> None:
        await send(START)
        await may_end.wait()
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        protocol.data_received(junk)
        await turns()
        may_end.set()
        await turns()
        assert line.sent.endswith(b"0\r\n\r\n")


async def test_empty_lines_keep_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_reader, "HEAD_SECONDS", 0.01)
    async with serving(answer_at_once) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        protocol.data_received(b"\r\n")
        await until(lambda: line.closed)


async def test_a_hang_up_is_seen_though_another_request_waits() -> None:
    left: list[str] = []

    async def step(connection: CallerConnection, _: Any) -> None:
        connection.watch_departure(lambda: left.append("gone"))
        await asyncio.Event().wait()

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        for _ in range(MAX_QUEUED_REQUESTS - 1):
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

    async def step(connection: CallerConnection, send: Any) -> None:
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

    async def step(connection: CallerConnection, send: Any) -> None:
        connection.close_behind_answer(discard=False)
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(BODY)
        await turns()
        assert line.closed


@pytest.mark.parametrize("answers", [True, False])
async def test_a_connection_that_ends_keeps_nothing_of_a_body(answers: bool) -> None:
    """A connection is part of a reference cycle, and the collector runs rarely: unread bodies would fill the memory."""

    async def step(connection: CallerConnection, send: Any) -> None:
        if not answers:
            await asyncio.Event().wait()
        connection.close_behind_answer(discard=False)
        await send(START)
        await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(BODY)
        cycle = protocol.cycle
        protocol.data_received(b"10000\r\n" + bytes(0x10000))
        await turns(20)
        if not answers:
            assert len(cycle.body) > 0x10000
            line.close()
            protocol.connection_lost(None)
        assert cycle.body == b""
