"""Owns the steps of a worker's shutdown, none of which depends on another: one that fails or hangs ends no other."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

STEP_SECONDS = 5.0  # for a step that waits on the event loop; one that blocks it has a limit of its own


async def run_steps(steps: dict[str, Callable[[], Awaitable[object] | None]]) -> None:
    """Runs the steps in their order; each has a name for the log. A step may be a coroutine function."""
    for name, step in steps.items():
        try:
            waiting = step()
            if inspect.isawaitable(waiting):
                async with asyncio.timeout(STEP_SECONDS):
                    await waiting
        except Exception:  # the border: the steps behind it save what has been counted and written
            logger.exception("the shutdown goes on without a step that failed: %s", name)
