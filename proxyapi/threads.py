"""Owns work on the database beside the event loop, in threads that nobody has to wait for.

`asyncio.to_thread` lends from a few threads that calls need too (an upload is parsed in one), and a process waits for
them when it ends: a database that hangs would take them all, and keep the process.
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
    """What `function` returns or raises. A caller that does not wait any longer leaves it to its fate."""
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
