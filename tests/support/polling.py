"""Waits for what tells nobody when it happens: a row of a table, another process, a page of a server.

A test waits for all that it asserts afterwards, if another thread or process does it: what it sees first says nothing
of the rest. How long it waits says only when a test gives up, so it is one long time for all, `PATIENCE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds; nothing takes so long, but a busy machine may need many times as long as a quiet one
LOOK_SECONDS = 0.01
T = TypeVar("T")


def wait_until(
    condition: Callable[[], object], patience: float = PATIENCE, complaint: Callable[[], object] = str
) -> None:
    """Waits until the condition is true; fails with the text of `complaint` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, complaint() or "it never came true"
        time.sleep(LOOK_SECONDS)


def repeat_until(condition: Callable[[], object], run: Callable[[], T]) -> T:
    """Calls a function until the condition is true after a call; returns the result of the last call.

    This is for what can be judged only if a busy machine has not come between: a call of 200 ms, say, that must reach
    upstream.
    """
    results: list[T] = []

    def is_enough() -> bool:
        results.append(run())
        return bool(condition())

    wait_until(is_enough)
    return results[-1]


def wait_until_quick(run: Callable[[], float], seconds: float) -> None:
    """Calls a function, which returns how many seconds it took, until one call took less than `seconds`.

    A busy machine delays some of the calls. Code that waits for what it should not wait for delays all of them, and
    then this fails.
    """
    took: list[float] = []

    def is_quick() -> bool:
        took.append(run())
        return took[-1] < seconds

    wait_until(is_quick, complaint=lambda: f"the quickest of {len(took)} runs took {min(took):.2f} s")
