"""An answer to a caller that does not take it: it ends with its deadline, wherever it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from django.http import HttpResponse

from proxyapi.dispatch.asgi_handler import CallHandler
from proxyapi.exceptions import InternalError
from proxyapi.streams import sending
from proxyapi.streams.response_head import Head
from proxyapi.streams.sending import EventStream
from tests.support.callers.served_connection import turns
from tests.support.servers.gateway import PATIENCE
from tests.support.upstreams.relays import CHUNK, END, opened_relay

START: Head = {"type": "http.response.start", "status": 200, "headers": []}


class Caller:
    """It takes `room` messages, and then no more."""

    takes_bytes = False

    def __init__(self, room: int) -> None:
        self.aborted = False
        self._room = room

    def send_whole(self, *_: object) -> bool:
        return False

    def send_now(self, _: bytes) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True

    async def send(self, _: Mapping[str, Any]) -> None:
        if not self._room:
            await asyncio.Event().wait()
        self._room -= 1


@pytest.mark.parametrize("room", [0, 1, 2])
async def test_a_caller_that_takes_nothing_holds_nothing(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Not before its head, not in the middle, and not before the end of it."""
    monkeypatch.setattr(sending, "GRACE_SECONDS", 0.0)
    caller: Any = Caller(room)
    async with opened_relay() as one:
        one.relay.deadline = asyncio.get_running_loop().time() + 0.05
        one.wire.send(CHUNK % (1, b""))
        one.wire.end()
        await EventStream(one.relay, caller.send, caller, "1.1").run(START)

    assert caller.aborted
    assert one.row.ended


@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_a_whole_answer_waits_for_an_earlier_one_no_longer(
    settings: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    settings.REQUEST_TIMEOUT = 0.05
    caller: Any = Caller(0)
    body = SimpleNamespace(close=lambda: None, caller_gone=False, left_at=None)
    request: Any = SimpleNamespace(
        method=method,
        request_id="1",
        incoming_request_id="",
        connection=caller,
        incoming_body=body,
        early_stream=None,
        caller_deadline=None,
    )
    handler = CallHandler()
    monkeypatch.setattr(handler, "_answer", AsyncMock(return_value=HttpResponse(b"whole")))
    async with asyncio.timeout(PATIENCE):
        await handler._exchange(request, caller.send)

    assert caller.aborted


@pytest.mark.parametrize("then", [b"", END, b"this is no chunk"], ids=["more may come", "the end", "nonsense"])
async def test_a_fault_of_ours_is_no_departure(then: bytes) -> None:
    caller: Any = Caller(9)
    async with opened_relay() as one:
        one.row.read_events = broken
        stream = asyncio.create_task(EventStream(one.relay, caller.send, caller, "1.1").run(START))
        await turns()
        one.wire.send(CHUNK % (1, b""), then)
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(PATIENCE):
                await stream

    assert one.row.error is InternalError


def broken(_: bytes) -> None:
    raise ZeroDivisionError
