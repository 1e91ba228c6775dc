"""A timeout that a pause of the whole process does not use up."""

from __future__ import annotations

import asyncio
import time

import pytest

from usage.timeouts import result_within


async def answer(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


async def fail() -> str:
    raise ValueError("a fault")


async def test_a_result_and_an_error_come_through() -> None:
    assert await result_within(asyncio.create_task(answer(0)), 60) == "answer"
    with pytest.raises(ValueError, match="a fault"):
        await result_within(asyncio.create_task(fail()), 60)


async def test_a_late_task_goes_on() -> None:
    task = asyncio.create_task(answer(600))
    with pytest.raises(TimeoutError):
        await result_within(task, 0.01)
    assert not task.done()
    task.cancel()


async def test_a_pause_of_the_process_uses_up_one_slice() -> None:
    seconds = 0.5
    task = asyncio.create_task(answer(seconds * 0.3))
    asyncio.get_running_loop().call_later(seconds * 0.05, time.sleep, seconds * 2)  # nothing runs meanwhile
    waited = asyncio.create_task(result_within(task, seconds))
    assert await waited == "answer"
