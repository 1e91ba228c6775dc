"""What a whole call costs: calls a second, and milliseconds of CPU of the server and of PostgreSQL."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench.stand.load import CONNECTIONS, Asked, closed_loop
from bench.stand.processes import cpu_of
from bench.stand.stand import Server, Stand


class Subject(NamedTuple):
    """A server and a request to it. `stand` is there if the server has a ledger."""

    server: Server
    what: str
    request: bytes
    stand: Stand | None = None
    calls: int = 2000
    connections: int = CONNECTIONS


class Cost(NamedTuple):
    """Of one round, or of the middle one."""

    calls_per_second: float
    cpu_ms: float
    postgres_ms: float


def rounds(subjects: Sequence[Subject], count: int) -> list[list[Cost]]:
    """Of each subject, the costs of `count` rounds; all take turns, so that what disturbs one disturbs the others."""
    for subject in subjects:
        measure(subject._replace(calls=max(subject.calls // 5, 1)))
    costs: list[list[Cost]] = [[] for _ in subjects]
    for _ in range(count):
        for subject, found in zip(subjects, costs, strict=True):
            found.append(measure(subject))
    return costs


def measure(subject: Subject) -> Cost:
    """One round. What the ledger does afterwards for these calls is in it."""
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
    """Of each figure, the median."""
    return Cost(*(statistics.median(figure) for figure in zip(*costs, strict=True)))
