"""Measures how many more calls a gateway with two workers can answer than one with a single worker, and its memory.

By the clock, two workers cannot answer twice as many calls as one here, because the clients, upstream and PostgreSQL
use the same two cores. So the CPU of a call is compared: if a call costs two workers no more CPU than one, then on free
cores they answer twice as many. Locks, the journal or memory could prevent that. Then a call would cost more CPU, or a
core would be idle, which the clock shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from bench.measures import calls
from bench.measures.calls import Cost, Subject
from bench.measures.footprint import idle
from bench.measures.rounds import figures, in_turns
from bench.stand.processes import CORES, cpu
from bench.stand.requests import plain
from bench.stand.stand import Stand, stand

CALLS = 3000
IDLE_SECONDS = 1.0
PATH = "/v1/chat/completions"


class Scaling(NamedTuple):
    """One round's comparison of a gateway with two workers to a gateway with one.

    `by_clock` is how many times as many calls two workers answer per second here; `by_cpu` is the same if each has a
    free core. `share` is the busier worker's part of the CPU that both have used: 0.5 if they did the same work.
    `memory_mb` is the memory in MiB that the second worker takes while nobody calls, including PostgreSQL's processes
    for it.
    """

    by_clock: float
    by_cpu: float
    share: float
    memory_mb: float


class Turn(NamedTuple):
    """The figures of one gateway in one round: the cost of a call, and the CPU seconds that each worker used."""

    cost: Cost
    workers: Sequence[float]


def measure(upstream: str, count: int) -> dict[str, Any]:
    """Measures a gateway with one worker and one with two, in turns, in `count` rounds.

    Returns the figures of the comparison for the results file. Both gateways run on both cores.
    """
    with ExitStack() as stack:
        both = [
            stack.enter_context(stand(upstream, cores=(CORES[0], CORES[-1]), WEB_CONCURRENCY=workers))
            for workers in ("1", "2")
        ]
        quiet = in_turns([partial(idle, it, IDLE_SECONDS) for it in both], count)
        for it in both:
            turn(it)  # to warm up
        busy = in_turns([partial(turn, it) for it in both], count)
    memory = [[found.gateway_mb + found.postgres_mb for found in rounds] for rounds in quiet]
    return figures([compared(one, two, after - before) for one, two, before, after in zip(*busy, *memory, strict=True)])


def turn(it: Stand) -> Turn:
    """Makes the calls of one round on a gateway; returns the cost of a call, and each worker's CPU seconds."""
    before = [cpu(pid) for pid in it.gateway.worker_pids]
    cost = calls.measure(Subject(it.server, PATH, plain(PATH, it.server.key), it, CALLS, connections=32))
    return Turn(cost, [cpu(pid) - start for pid, start in zip(it.gateway.worker_pids, before, strict=True)])


def compared(one: Turn, two: Turn, memory_mb: float) -> Scaling:
    """Computes, from one round's measures, how many more calls two workers can answer than one.

    `memory_mb` is the memory that the second worker takes.
    """
    return Scaling(
        two.cost.calls_per_second / one.cost.calls_per_second,
        2 * one.cost.cpu_ms / two.cost.cpu_ms,
        max(two.workers) / sum(two.workers),
        memory_mb,
    )
