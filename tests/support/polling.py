"""Waits for events that nobody announces: a row in a table, the work of another process, a page of a server.

If another thread or process does the work, a test must wait for everything that it asserts afterwards, since one result
does not show that the others are there. The time limit only decides when a failing test gives up, so all tests have the
same long one, `PATIENCE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds; nothing takes so long, but a busy machine may need many times as long as a quiet one
LOOK_SECONDS = 0.01
# The times after which a page gives up or shows what it has found until then. All tests in this process set them to
# `PATIENCE`, since a busy machine would make pages incomplete; a test of such a time sets it anew.
TIMES_OF_PAGES = (
    "proxyapi.pages.reports.MAX_DATABASE_SECONDS",
    "usage.database.query_deadline.PAGE_SECONDS",
    "usage.page_data.call_search.sorted_calls.COMPARE_SECONDS",
    "usage.page_data.call_search.sorted_calls.INDEX_SECONDS",
    "usage.page_data.conversations.neighbours.PAGE_SECONDS",
    "usage.page_data.conversations.neighbours.WORDS_SECONDS",
    "usage.page_data.conversations.session_calls.READ_SECONDS",
    "usage.page_data.search.PAGE_SECONDS",
    "usage.page_data.search.WORDS_SECONDS",
)
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

    This is for conditions that fail on a busy machine now and then, such as a call of 200 ms that must reach upstream.
    """
    results: list[T] = []

    def is_enough() -> bool:
        results.append(run())
        return bool(condition())

    wait_until(is_enough)
    return results[-1]


def wait_until_quick(run: Callable[[], float], seconds: float) -> None:
    """Calls a function, which returns how many seconds it took, until one call took less than `seconds`.

    A busy machine delays only some of the calls. Code that waits for something that it should not delays all of them;
    then this function fails.
    """
    took: list[float] = []

    def is_quick() -> bool:
        took.append(run())
        return took[-1] < seconds

    wait_until(is_quick, complaint=lambda: f"the quickest of {len(took)} runs took {min(took):.2f} s")
