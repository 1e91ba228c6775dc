"""What a second worker brings.

By the clock, load, upstream and PostgreSQL share the two cores with the workers, so two workers cannot be twice one. By
CPU: two workers on free cores answer twice as many calls as one if a call costs them no more than one alone. What is in
the way of that (locks, the journal, memory) costs CPU or leaves a core idle, and the latter is seen by the clock.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from bench.measures.calls import Cost, Subject, middle, rounds
from bench.stand.processes import CORES, cpu
from bench.stand.requests import plain
from bench.stand.stand import stand

CALLS = 3000
PATH = "/v1/chat/completions"


class Scaling(NamedTuple):
    """`share` is of the CPU time, the busier worker's: 0.5 is even."""

    one: Cost
    two: Cost
    share: float

    @property
    def by_clock(self) -> float:
        return self.two.calls_per_second / self.one.calls_per_second

    @property
    def by_cpu(self) -> float:
        return 2 * self.one.cpu_ms / self.two.cpu_ms


def measure(upstream: str, count: int) -> Scaling:
    """Two gateways take turns, in `count` rounds, on both cores alike."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(stand(upstream, cores=(CORES[0], CORES[-1]), WEB_CONCURRENCY=workers))
            for workers in ("1", "2")
        )
        before = [cpu(pid) for pid in two.server.pids]
        subjects = [
            Subject(it.server, PATH, plain(PATH, it.server.key), it, CALLS, connections=32) for it in (one, two)
        ]
        alone, together = (middle(costs) for costs in rounds(subjects, count))
        used = [cpu(pid) - start for pid, start in zip(two.server.pids, before, strict=True)]
    return Scaling(alone, together, max(used) / sum(used))
