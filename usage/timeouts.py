"""A timeout that does not count pauses of the whole process."""

from __future__ import annotations

import asyncio
from typing import TypeVar

SLICES = 10

T = TypeVar("T")


async def result_within(task: asyncio.Task[T], seconds: float) -> T:
    """Waits up to `seconds` for a task that reads a socket; returns the task's result or raises its error.

    After a timeout the task is still running; the caller must cancel it. If the whole process is suspended meanwhile,
    the suspension uses up at most a tenth of `seconds`, however long it lasts.

    Raises:
        TimeoutError: the task has not ended in time.
    """
    # While the whole process stands still, time passes, but nobody reads the socket. Such a pause uses up only one
    # slice: the task has the others to read the socket.
    for _ in range(SLICES):
        await asyncio.wait({task}, timeout=seconds / SLICES)
        if task.done():
            return task.result()
    raise TimeoutError
