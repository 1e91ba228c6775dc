"""What a whole call costs: calls a second, and milliseconds of CPU of the server and of PostgreSQL."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench.stand.load import CONNECTIONS, Asked, closed_loop
from bench.stand.processes import cpu_of
from bench.stand.stand import Server, Stand


class Subject(NamedTuple):
    """One thing to measure: a server, and a request that is sent to it `calls` times in each round.

    It is sent on `connections` connections. `what` describes it in the results. `stand` is the running gateway, whose
    ledger is waited for; it is None if the server keeps no ledger.
    """

    server: Server
    what: str
    request: bytes
    stand: Stand | None = None
    calls: int = 2000
    connections: int = CONNECTIONS


class Cost(NamedTuple):
    """Cost of a call: calls a second by the clock, and CPU milliseconds a call of the server and of PostgreSQL."""

    calls_per_second: float
    cpu_ms: float
    postgres_ms: float


def rounds(subjects: Sequence[Subject], count: int) -> list[list[Cost]]:
    """Measures what a call costs each of the servers in `subjects`, in `count` rounds.

    Returns a list for each of them, with one cost a round. They take turns in every round, so that whatever disturbs
    the machine disturbs all of them alike. Before the first round each is warmed up with a fifth of its calls.
    """
    for subject in subjects:
        measure(subject._replace(calls=max(subject.calls // 5, 1)))
    costs: list[list[Cost]] = [[] for _ in subjects]
    for _ in range(count):
        for subject, found in zip(subjects, costs, strict=True):
            found.append(measure(subject))
    return costs


def measure(subject: Subject) -> Cost:
    """Makes the calls of one round of a benchmark, and returns what a call cost.

    If the server keeps a ledger, this waits until the ledger has the calls: to ship them is part of their cost.
    """
    server, stand = subject.server, subject.stand
    asked = Asked(server.url, subject.request)
    postgres = stand.postgres if stand else []
    known = stand.counted() if stand else 0
    cpu, postgres_cpu = cpu_of(server.pids), cpu_of(postgres)
    seconds = closed_loop(asked, subject.calls, subject.connections)
    if stand:
        stand.wait_for(known + subject.calls)
    milliseconds = 1000 / subject.calls
    return Cost(
        subject.calls / seconds,
        (cpu_of(server.pids) - cpu) * milliseconds,
        (cpu_of(postgres) - postgres_cpu) * milliseconds,
    )


def middle(costs: Sequence[Cost]) -> Cost:
    """Returns the median of several costs of a call, taken for each of their figures separately."""
    return Cost(*(statistics.median(figure) for figure in zip(*costs, strict=True)))
