"""A form that goes up as it arrives has to arrive at a least speed; what upstream takes its time for is not counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from proxyapi.call import request_body
from proxyapi.call.request_body import IncomingBody, MinimumSpeed
from proxyapi.exceptions import CallerGone, RequestTimeout
from tests.support.callers.asgi import Asgi

NEVER = 600.0
QUICK = 0.05


def body_of(pieces: Iterable[tuple[float, bytes]], *, then: str = "end") -> IncomingBody:
    """A request body whose pieces each arrive after the given number of seconds.

    With 0 seconds a piece is there without a turn of the event loop, so that no busy machine can delay it.
    """
    waiting = iter(pieces)

    async def receive() -> dict[str, Any]:
        if (piece := next(waiting, None)) is None:
            return (
                {"type": "http.disconnect"}
                if then == "departure"
                else {"type": "http.request", "body": b"", "more_body": False}
            )
        seconds, content = piece
        if seconds:
            await asyncio.sleep(seconds)
        return {"type": "http.request", "body": content, "more_body": True}

    connection: Any = Asgi("POST", "/v1/images/edits")
    return IncomingBody(receive, connection, is_form=True, announced="", client_address="192.0.2.1")


async def read(body: IncomingBody, *, pause: float = 0.0) -> bytes:
    content = b""
    async for piece in body.pieces_in_time():
        content += piece
        if pause:
            await asyncio.sleep(pause)
    return content


@pytest.mark.parametrize("sent", [0, 1, 99])
async def test_whoever_stops_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: int) -> None:
    monkeypatch.setattr(request_body, "CALLER_SPEED", MinimumSpeed(100, QUICK))
    with pytest.raises(RequestTimeout):
        await read(body_of([(0, b"x" * sent), (NEVER, b"")]))


async def test_a_trickle_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "CALLER_SPEED", MinimumSpeed(1_000_000, QUICK))
    with pytest.raises(RequestTimeout):
        await read(body_of((QUICK / 10, b"x") for _ in range(1_000_000)))


async def test_each_period_asks_for_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "CALLER_SPEED", MinimumSpeed(100, QUICK))
    body = body_of([(0, b"x" * 100)] * 5 + [(NEVER, b"")])
    with pytest.raises(RequestTimeout):
        await read(body)
    assert body.size == 500


async def test_the_time_that_upstream_takes_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "CALLER_SPEED", MinimumSpeed(1_000_000, QUICK))
    assert await read(body_of([(0, b"x")] * 5), pause=QUICK / 2) == b"x" * 5


async def test_a_departure_is_none_of_its_faults() -> None:
    with pytest.raises(CallerGone):
        await read(body_of([(0, b"x")], then="departure"))
