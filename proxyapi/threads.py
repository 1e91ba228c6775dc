"""Runs database work beside the event loop, in daemon threads of its own, for which no process waits at its end.

`asyncio.to_thread` uses a small pool that calls need too (an upload is parsed in it), and a process waits for that pool
when it ends. A database that hangs would occupy the whole pool, and keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(function: Callable[[], T]) -> T:
    """Runs `function` in a new thread, and returns or raises what it does.

    If the waiting task is cancelled, the thread goes on, and its outcome is dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Future[T]] = loop.create_future()

    def run() -> None:
        outcome: Future[T] = Future()
        try:
            outcome.set_result(function())
        except BaseException as error:  # a border: raised again where it is awaited
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, outcome)

    def finish(outcome: Future[T]) -> None:
        if not done.done():
            done.set_result(outcome)

    threading.Thread(target=run, name="database work", daemon=True).start()
    return (await done).result()
