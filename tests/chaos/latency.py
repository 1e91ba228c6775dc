"""Owns the measurement of "the caller waits for no database": plain calls, with PostgreSQL frozen and not, in turn."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tests.chaos.lab import Lab
from tests.chaos.load import PLAIN, Load

AT_ONCE = 4
PHASE = "latency"
# The two differ by noise alone; a call that waited would take seconds more.
MOST = 2.0


@dataclass
class Latencies:
    """How long each call took, in seconds: while PostgreSQL was frozen, and while it was not (`thawed`)."""

    frozen: list[float] = field(default_factory=list)
    thawed: list[float] = field(default_factory=list)

    @property
    def p50_ratio(self) -> float:
        return percentile(self.frozen, 50) / percentile(self.thawed, 50)

    def __str__(self) -> str:
        words = [
            f"{name}: p50 {percentile(calls, 50) * 1000:.1f} ms, p99 {percentile(calls, 99) * 1000:.1f} ms"
            f" ({len(calls)} calls)"
            for name, calls in (("frozen", self.frozen), ("not frozen", self.thawed))
        ]
        p99_ratio = percentile(self.frozen, 99) / percentile(self.thawed, 99)
        return f"PostgreSQL {'; '.join(words)}; ratio p50 {self.p50_ratio:.2f}, p99 {p99_ratio:.2f}"


async def measure(lab: Lab, load: Load, *, rounds: int, seconds: float) -> Latencies:
    """Measures the latency of calls with PostgreSQL running and with PostgreSQL frozen, in turns.

    Each lasts `seconds`, and there are `rounds` of both. Meanwhile the mix of calls is paused.
    """
    latencies = Latencies()
    load.phase = PHASE
    async with load.resting():
        for _ in range(rounds):
            latencies.thawed += await _window(load, seconds)
            lab.postgres.freeze()
            try:
                latencies.frozen += await _window(load, seconds)
            finally:
                lab.postgres.thaw()
            await asyncio.sleep(0.5)  # what has waited is shipped now
    return latencies


async def _window(load: Load, seconds: float) -> list[float]:
    until = time.monotonic() + seconds
    taken: list[float] = []

    async def call_in_turn() -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            await load.call(PLAIN)
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(call_in_turn() for _ in range(AT_ONCE)))
    return taken


def percentile(values: list[float], share: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]
