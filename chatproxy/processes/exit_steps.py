"""The steps in which a worker ends after its last call, each isolated from the others.

A step that fails or hangs does not stop the other ones, because later steps save what has been counted and written.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

logger = logging.getLogger(__name__)

STEP_SECONDS = 5.0  # for a step that waits on the event loop; one that blocks the loop has a limit of its own

# Functions that are called on the event loop once the whole server is stopping, and once this worker has closed its
# port. Lists to which the application adds, because the module that calls them
# (`chatproxy.processes.draining_server`) must not import the application.
on_server_stop: list[Callable[[], None]] = []
on_port_close: list[Callable[[], None]] = []


class ShutdownSteps(AsyncExitStack):
    """The steps of a worker's shutdown: a context manager that runs them when its block ends, in reverse order."""

    def add(self, name: str, step: Callable[[], Awaitable[object] | None]) -> None:
        """Adds a step to the worker's shutdown: a function or coroutine function, and its name for the log."""
        self.push_async_callback(run_step, name, step)


async def run_step(name: str, step: Callable[[], Awaitable[object] | None]) -> None:
    """Runs one step of a worker's shutdown, and logs an error instead of raising it.

    A step that awaits is cancelled after `STEP_SECONDS`.
    """
    try:
        waiting = step()
        if inspect.isawaitable(waiting):
            async with asyncio.timeout(STEP_SECONDS):
                await waiting
    except Exception:  # the border: the steps behind this one save what has been counted and written
        logger.exception("the shutdown goes on without a step that failed: %s", name)
