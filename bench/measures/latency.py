"""How much later an answer comes than without the server between, at a fixed rate, whether or not the last has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.stand.load import Asked, open_loop
from bench.stand.streams import quantile

RATE = 100.0  # calls a second
SHARES = (0.5, 0.95, 0.99)


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


def measure(direct: Asked, others: Sequence[Asked], seconds: float) -> list[Latency]:
    """Direct's latencies, then what each of the others adds. All take turns, and so meet the same disturbances."""
    alone, *through = (latency(found) for found in open_loop([direct, *others], RATE, seconds))
    return [alone, *(Latency(*(a - b for a, b in zip(one, alone, strict=True))) for one in through)]


def latency(milliseconds: Sequence[float]) -> Latency:
    return Latency(*(quantile(milliseconds, share) for share in SHARES))
