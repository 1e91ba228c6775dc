"""Runs several measures in turns, in rounds, so that disturbances of the machine affect all of them alike.

Ratios of two figures are computed for each round, because only figures measured at about the same time can be compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Found = TypeVar("Found")


def in_turns(measures: Sequence[Callable[[], Found]], count: int) -> list[list[Found]]:
    """Runs all measures in turn, in each of `count` rounds; returns a list for each measure, with one result a round.

    A round begins with the measure that ended the round before, so that changes over time affect all measures alike.
    """
    found: list[list[Found]] = [[] for _ in measures]
    for turn in range(count):
        pairs = list(zip(measures, found, strict=True))
        for measure, results in pairs if turn % 2 == 0 else reversed(pairs):
            results.append(measure())
    return found


def figures(found: Sequence[Any]) -> dict[str, Any]:
    """Summarizes the results of several rounds for the results file; each result is a named tuple of figures.

    The summary has the median of each figure under its name and, under `rounds`, the lists of the figures of all
    rounds.
    """
    rounds = {name: list(values) for name, values in zip(found[0]._fields, zip(*found, strict=True), strict=True)}
    return {**{name: statistics.median(values) for name, values in rounds.items()}, "rounds": rounds}


def line(server: str, what: str, found: Sequence[Any]) -> dict[str, Any]:
    """Builds a line for the results file: the figures of several rounds, with the server and the description."""
    return {"server": server, "what": what, **figures(found)}
