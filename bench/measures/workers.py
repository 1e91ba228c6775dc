"""How much more a gateway with two workers can do than one with a single worker.

By the clock, two workers cannot reach twice the calls of one here, because the load, upstream and PostgreSQL use the
same two cores. So the CPU of a call is compared: if a call costs two workers no more CPU than one, then on free cores
they answer twice as many. Locks, the journal or memory could prevent that. They would cost more CPU or leave a core
idle; the clock shows the latter.
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
    """The cost of a call on a gateway with one worker and on one with two workers.

    `share` is the busier worker's part of the CPU that both have used: 0.5 means that they did the same work.
    """

    one: Cost
    two: Cost
    share: float

    @property
    def by_clock(self) -> float:
        """The calls a second that two workers answered, divided by those of one worker; measured by the clock."""
        return self.two.calls_per_second / self.one.calls_per_second

    @property
    def by_cpu(self) -> float:
        """The calls a second that two workers could answer, each on a free core, divided by those of one worker.

        Computed from the CPU that a call costs them.
        """
        return 2 * self.one.cpu_ms / self.two.cpu_ms


def measure(upstream: str, count: int) -> Scaling:
    """Measures a gateway with one worker and one with two, in turns, `count` rounds, and returns both costs.

    Both gateways run on both cores.
    """
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(stand(upstream, cores=(CORES[0], CORES[-1]), WEB_CONCURRENCY=workers))
            for workers in ("1", "2")
        )
        before = [cpu(pid) for pid in two.gateway.worker_pids]
        subjects = [
            Subject(it.server, PATH, plain(PATH, it.server.key), it, CALLS, connections=32) for it in (one, two)
        ]
        alone, together = (middle(costs) for costs in rounds(subjects, count))
        used = [cpu(pid) - start for pid, start in zip(two.gateway.worker_pids, before, strict=True)]
    return Scaling(alone, together, max(used) / sum(used))
