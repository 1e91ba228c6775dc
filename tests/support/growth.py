"""Whether a function's time grows with the length of its input, and not with the square of it.

No number of seconds says that on every machine: the slow ones of a service for continuous integration take five times
as long as a desk's. A short input and a long one, measured in turns on the same machine, do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.polling import PATIENCE, wait_until

TIMES_LONGER = 4  # the long input
MOST_GROWTH = 8.0  # between the 4 of time in proportion to the length, and the 16 of its square
NO_SECONDS = 0.005  # a call that takes less is quick, and too short to be compared
LEAST_TURNS = 3  # before each look at the quickest


def wait_until_linear(run: Callable[[int], object], length: int, patience: float = PATIENCE) -> None:
    """Calls `run(length)` and `run(length // TIMES_LONGER)` in turns until the quickest show that time grows linearly.

    A busy machine delays only some of the calls. Fails after `patience` seconds.
    """
    short: list[float] = []
    long: list[float] = []

    def is_linear() -> bool:
        for _ in range(LEAST_TURNS):
            short.append(_seconds(run, length // TIMES_LONGER))
            long.append(_seconds(run, length))
        return min(long) <= max(MOST_GROWTH * min(short), NO_SECONDS)

    wait_until(
        is_linear, patience, lambda: f"{min(long):.4f} s of CPU for {length}, {min(short):.4f} s for a quarter of it"
    )


def _seconds(run: Callable[[int], object], length: int) -> float:
    """Returns the CPU seconds of this thread that a call takes."""
    began = time.thread_time()
    run(length)
    return time.thread_time() - began
