"""Measures the cost of a whole call: calls per second, CPU of the server and of PostgreSQL, and latency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from bench.measures.rounds import in_turns, line
from bench.stand.load import CONNECTIONS, Asked, closed_loop
from bench.stand.processes import cpu_of
from bench.stand.stand import Server, Stand
from bench.stand.streams import quantile


class Subject(NamedTuple):
    """One thing to measure: a server, and a request that is sent to it `calls` times in each round.

    The request is sent on `connections` connections. `what` describes it in the results. `stand` is the running
    gateway, whose ledger must have all calls before a measure ends; None if the server keeps no ledger.
    """

    server: Server
    what: str
    request: bytes
    stand: Stand | None = None
    calls: int = 1000
    connections: int = CONNECTIONS


class Cost(NamedTuple):
    """The cost of a call: calls a second by the clock, and CPU milliseconds a call of the server and of PostgreSQL.

    `p50` and `p99` are percentiles of the time from a request to its whole answer, in milliseconds.
    """

    calls_per_second: float
    cpu_ms: float
    postgres_ms: float
    p50: float
    p99: float


def lines(subjects: Sequence[Subject], count: int) -> Iterator[dict[str, Any]]:
    """Measures in `count` rounds the cost of a call in each server of `subjects`; yields a line of results for each."""
    for subject, found in zip(subjects, rounds(subjects, count), strict=True):
        yield line(subject.server.name, subject.what, found)


def rounds(subjects: Sequence[Subject], count: int) -> list[list[Cost]]:
    """Measures in `count` rounds the cost of a call in each server of `subjects`; returns a list of costs for each.

    The list has one cost a round. Before the first round each server is warmed up with a fifth of its calls.
    """
    for subject in subjects:
        measure(subject._replace(calls=max(subject.calls // 5, 1)))
    return in_turns([partial(measure, subject) for subject in subjects], count)


def measure(subject: Subject) -> Cost:
    """Makes the calls of one round of a benchmark, and returns the cost of a call.

    If the server keeps a ledger, this waits until the ledger has the calls, since shipping is part of their cost.
    """
    server, stand = subject.server, subject.stand
    asked = Asked(server.url, subject.request)
    known = stand.counted() if stand else 0
    cpu, postgres_cpu = cpu_of(server.pids), cpu_of(stand.postgres if stand else [])
    answers = closed_loop(asked, subject.calls, subject.connections)
    if stand:
        stand.wait_for(known + subject.calls)
    milliseconds = 1000 / subject.calls
    return Cost(
        subject.calls / answers.seconds,
        (cpu_of(server.pids) - cpu) * milliseconds,
        (cpu_of(stand.postgres if stand else []) - postgres_cpu) * milliseconds,
        quantile(answers.milliseconds, 0.5),
        quantile(answers.milliseconds, 0.99),
    )
