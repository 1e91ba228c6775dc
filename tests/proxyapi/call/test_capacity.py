"""Draining shortens the time of bodies that are on their way: of each of them, and of none into the past or beyond."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxyapi.call import capacity as capacity_module
from proxyapi.call import request_body
from proxyapi.call.capacity import DRAINED_BODY_SECONDS, Capacity
from proxyapi.exceptions import ShuttingDown
from tests.support.callers.asgi import Asgi


async def wait(patience: asyncio.Timeout, entered: asyncio.Event, capacity: Capacity) -> None:
    async with patience:
        with capacity.receiving(patience):
            entered.set()
            await asyncio.Event().wait()


async def start(capacity: Capacity, seconds: float | None) -> tuple[asyncio.Timeout, asyncio.Task[None]]:
    """A body that is on its way, and has so many seconds."""
    patience, entered = asyncio.timeout(seconds), asyncio.Event()
    task = asyncio.create_task(wait(patience, entered, capacity))
    await entered.wait()
    return patience, task


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("seconds", [0.5, DRAINED_BODY_SECONDS - 0.1, DRAINED_BODY_SECONDS + 0.1, 900.0, None])
async def test_no_deadline_gets_longer(seconds: float | None) -> None:
    capacity = Capacity()
    patience, task = await start(capacity, seconds)
    before = patience.when()
    latest = asyncio.get_running_loop().time() + DRAINED_BODY_SECONDS
    capacity.drain()
    after = patience.when()
    assert after is not None
    if before is not None and before <= latest:
        assert after == before
    else:
        assert latest <= after <= asyncio.get_running_loop().time() + DRAINED_BODY_SECONDS
    await end(task)


@pytest.mark.parametrize("others", [1, 10])
async def test_one_whose_time_has_just_passed_is_left_alone_and_the_others_are_shortened(others: int) -> None:
    capacity = Capacity()
    expired, late = await start(capacity, 900)
    rest = [await start(capacity, 900) for _ in range(others)]
    loop = asyncio.get_running_loop()
    expired.reschedule(loop.time())
    hurried = loop.create_future()

    def drain() -> None:
        """In the turn of the loop in which the time passes, before the task hears of it."""
        try:
            assert expired.expired()
            capacity.drain()
        except Exception as error:  # as a signal's callback would log it
            hurried.set_exception(error)
        else:
            hurried.set_result(None)

    loop.call_soon(drain)
    await hurried
    soon = loop.time() + DRAINED_BODY_SECONDS
    assert all((patience.when() or soon) <= soon for patience, _ in rest)
    assert all(patience.when() is not None for patience, _ in rest)
    with pytest.raises(TimeoutError):
        await late
    await end(*(task for _, task in rest))


async def test_a_body_that_comes_while_draining_has_its_own_time_or_less() -> None:
    capacity = Capacity()
    capacity.drain()
    short, first = await start(capacity, 1)
    long, second = await start(capacity, 900)
    now = asyncio.get_running_loop().time()
    assert (short.when() or now + 900) <= now + 1
    assert (long.when() or now + 900) <= now + DRAINED_BODY_SECONDS
    await end(first, second)


async def test_a_body_that_does_not_come_in_the_time_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_module, "DRAINED_BODY_SECONDS", 0.05)
    monkeypatch.setattr(request_body, "capacity", capacity := Capacity())
    capacity.drain()

    async def receive() -> dict[str, Any]:
        return await asyncio.Future()  # nothing comes

    connection: Any = Asgi("POST", "/openai")
    body = request_body.IncomingBody(receive, connection, is_form=False, announced="", client_address="192.0.2.1")
    with pytest.raises(ShuttingDown):
        await body.read()
