"""Owns rounds: subjects are measured in turns, so that what disturbs the machine disturbs all of them alike.

A ratio of two subjects is taken in each round, because only what was measured at about the same time can be compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Found = TypeVar("Found")


def in_turns(measures: Sequence[Callable[[], Found]], count: int) -> list[list[Found]]:
    """Runs all measures in turn, in each of `count` rounds; returns a list for each measure, with one result a round.

    A round begins with the measure that ended the round before, so that what changes with time is no difference between
    the measures.
    """
    found: list[list[Found]] = [[] for _ in measures]
    for turn in range(count):
        pairs = list(zip(measures, found, strict=True))
        for measure, results in pairs if turn % 2 == 0 else reversed(pairs):
            results.append(measure())
    return found


def figures(found: Sequence[Any]) -> dict[str, Any]:
    """Converts the results of several rounds, named tuples of figures, to what the results file keeps of them.

    That is the median of each figure under its name and, under `rounds`, the lists of the figures of all rounds.
    """
    rounds = {name: list(values) for name, values in zip(found[0]._fields, zip(*found, strict=True), strict=True)}
    return {**{name: statistics.median(values) for name, values in rounds.items()}, "rounds": rounds}


def line(server: str, what: str, found: Sequence[Any]) -> dict[str, Any]:
    """Builds a line for the results file: the figures of several rounds, with the server and what it was asked."""
    return {"server": server, "what": what, **figures(found)}
