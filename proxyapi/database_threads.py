"""Runs database work outside of the event loop, in a new daemon thread for each piece of work.

`asyncio.to_thread` would use a small pool of threads, which pages need too. A database that hangs could occupy the
whole pool, and a process waits for the pool before it ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from django.db import OperationalError

T = TypeVar("T")


class NoThread(OperationalError):
    """Error: the operating system has no thread left for work on the database, so the work was not begun."""


async def in_own_thread(function: Callable[[], T]) -> T:
    """Runs `function` in a new thread, waits until it has ended, and returns its result or raises its error.

    If the waiting task is cancelled, the thread goes on, but its result or error is dropped.

    Raises:
        NoThread: the thread cannot be started.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Future[T]] = loop.create_future()

    def run() -> None:
        outcome: Future[T] = Future()
        try:
            outcome.set_result(function())
        except BaseException as error:  # a border: the error is raised again in the task that waits
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, outcome)

    def finish(outcome: Future[T]) -> None:
        if not done.done():
            done.set_result(outcome)

    try:
        threading.Thread(target=run, name="database work", daemon=True).start()
    except RuntimeError as error:  # "can't start new thread"
        raise NoThread(str(error)) from error
    return (await done).result()
