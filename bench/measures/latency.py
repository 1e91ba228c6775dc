"""By how much a server between client and upstream delays an answer.

Calls are made at a fixed rate, whether or not earlier ones have been answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.stand.load import Asked, open_loop
from bench.stand.streams import quantile

RATE = 100.0  # calls a second
SHARES = (0.5, 0.95, 0.99)


class Latency(NamedTuple):
    """Percentiles of the time that answers took, or of the time that a server added to it, in milliseconds."""

    p50: float
    p95: float
    p99: float


def measure(direct: Asked, others: Sequence[Asked], seconds: float) -> list[Latency]:
    """Calls all targets in turn for `seconds`, and returns a latency for each.

    The first is the latency of calls to `direct`; the others are what each other target adds to it. Because the targets
    take turns, whatever disturbs the machine disturbs all of them alike.
    """
    alone, *through = (latency(found) for found in open_loop([direct, *others], RATE, seconds))
    return [alone, *(Latency(*(a - b for a, b in zip(one, alone, strict=True))) for one in through)]


def latency(milliseconds: Sequence[float]) -> Latency:
    """Returns the percentiles of a list of times in milliseconds."""
    return Latency(*(quantile(milliseconds, share) for share in SHARES))
