"""Measures by how much a server between client and upstream delays an answer.

Calls are made at a fixed rate, whether or not earlier ones have been answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from bench.measures.rounds import in_turns, line
from bench.stand.load import Asked, open_loop
from bench.stand.streams import quantile

RATE = 100.0  # calls a second
SHARES = (0.5, 0.95, 0.99)


class Latency(NamedTuple):
    """Percentiles, in milliseconds, of the time that answers took, or of what a server added to this time."""

    p50: float
    p95: float
    p99: float


def lines(groups: Mapping[str, Mapping[str, Asked]], count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measures in `count` rounds how long calls to groups of servers take; yields a line of results for each server.

    All servers of a group get the same request, which is the group's name, for `seconds` per round. The line of a
    group's first server has its latency; the line of every other server has the difference to the first.
    """
    names = [(server, what) for what, targets in groups.items() for server in targets]
    measures = [partial(measure, list(targets.values()), seconds) for targets in groups.values()]
    columns = [column for found in in_turns(measures, count) for column in zip(*found, strict=True)]
    for (server, what), found in zip(names, columns, strict=True):
        yield line(server, what, found)


def measure(targets: Sequence[Asked], seconds: float) -> list[Latency]:
    """Calls all targets in turn for `seconds`, and returns a latency for each.

    The first is the latency of calls to the first target; the others are what each other target adds to it. Because the
    targets take turns, whatever disturbs the machine disturbs all of them alike.
    """
    alone, *through = (latency(found) for found in open_loop(targets, RATE, seconds))
    return [alone, *(Latency(*(a - b for a, b in zip(one, alone, strict=True))) for one in through)]


def latency(milliseconds: Sequence[float]) -> Latency:
    """Computes the percentiles of a list of times in milliseconds."""
    return Latency(*(quantile(milliseconds, share) for share in SHARES))
