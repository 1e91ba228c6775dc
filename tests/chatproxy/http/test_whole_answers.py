"""A whole answer that leaves in one packet is, byte by byte, what uvicorn would have sent; and it ends the request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.http.protocol import Protocol
from proxyapi.call.caller_connection import CallerConnection
from proxyapi.streams.response_head import lines_of, message_of
from tests.support.callers.served_connection import ASKED, END, START, Line, serving, turns

FIELDS = [("content-type", "application/json"), ("vary", "origin"), ("x-latin", "é"), ("content-length", "4")]
BODY = b"body"
LAST = ASKED.replace(b"Host", b"Connection: close\r\nHost")
OLD = ASKED.replace(b"HTTP/1.1", b"HTTP/1.0")


async def by_uvicorn(_: CallerConnection, send: Any) -> None:
    await send(message_of(429, FIELDS))
    await send({"type": "http.response.body", "body": BODY})


async def at_once(connection: CallerConnection, _: Any) -> None:
    assert connection.send_whole(429, lines_of(FIELDS), BODY)


@pytest.mark.parametrize("asked", [ASKED, ASKED * 3, LAST, OLD], ids=["one", "three", "the last", "HTTP/1.0"])
async def test_both_ways_send_the_same(asked: bytes) -> None:
    found = []
    for step in (by_uvicorn, at_once):
        async with serving(step) as (protocol, line):
            protocol.server_state.default_headers = [(b"date", b"today")]
            protocol.data_received(asked)
            await turns(10)
            found.append((line.sent, line.closed, protocol.timeout_keep_alive_task is not None))

    assert found[0] == found[1]
    assert found[0][0].count(b"\r\n\r\nbody") == asked.count(b"GET")


async def has_begun(_: Protocol, __: Line, send: Any) -> None:
    await send(START)


async def is_paused(protocol: Protocol, _: Line, __: Any) -> None:
    protocol.pause_writing()


async def has_left(protocol: Protocol, line: Line, _: Any) -> None:
    line.closed = True
    protocol.connection_lost(None)


@pytest.mark.parametrize("before", [has_begun, is_paused, has_left])
async def test_an_answer_that_would_wait_or_has_begun_is_not_sent(before: Any) -> None:
    said: list[object] = []

    async def step(connection: CallerConnection, send: Any) -> None:
        await before(protocol, line, send)
        sent = line.sent
        said.extend((connection.send_whole(200, b"", b""), line.sent == sent))
        if not line.closed:
            protocol.resume_writing()
            if before is not has_begun:
                await send(START)
            await send(END)

    async with serving(step) as (protocol, line):
        protocol.data_received(ASKED)
        await turns()
        assert said == [False, True]


@given(st.lists(st.tuples(st.sampled_from(["a", "link"]), st.text(st.characters(codec="latin-1")))))
def test_no_header_makes_another_line(fields: list[tuple[str, str]]) -> None:
    try:
        lines = lines_of(fields)
    except ValueError:
        assert any(set(value) & set("\r\n\0") for _, value in fields)
    else:
        assert lines.split(b"\r\n") == [f"{name}: {value}".encode("latin-1") for name, value in fields] + [b""]
