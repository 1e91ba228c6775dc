"""Ranks the sums of keys, of models or of routes by their cost, for tables that have no room for all of them.

A model with several names is one line. A call that the model has answered has a name with a date, such as
`gpt-4o-mini-2024-07-18`, but a call that failed before has the name without the date. The line has the name without the
date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from usage.prices.price_lookup import undated_name
from usage.sums.sum_tables import DURATION
from usage.sums.totals_reader import Totals


@dataclass
class RankedGroup:
    """One line of a ranked table of keys, routes or models, with the sums of its calls.

    `members` are the names under which the tables of sums count these calls. A model may have several: its name with
    and without a date. A key or route has one, the name of the line.
    """

    name: str
    totals: Totals = field(default_factory=Totals)
    members: list[str] = field(default_factory=list)


def rank(groups: Mapping[str, Totals], lines: Mapping[str, str]) -> list[RankedGroup]:
    """Merges the sums of names that share a line of a table; returns the lines, the costliest first.

    `groups` maps the names of keys, routes or models to sums. `lines` maps a name to the name of its line; a name that
    is missing there has a line of its own. Of lines that cost the same, the one with more calls comes first.
    """
    ranked: dict[str, RankedGroup] = {}
    for name, totals in groups.items():
        line = lines.get(name, name)
        group = ranked.setdefault(line, RankedGroup(line))
        group.totals.merge(totals)
        group.members.append(name)
    return sorted(ranked.values(), key=lambda group: (-group.totals.cost, -group.totals.calls, group.name))


def add_durations(groups: Iterable[RankedGroup], histograms: Mapping[str, Sequence[int]]) -> None:
    """Adds histograms of call durations to the totals of some lines of a table, in place.

    `histograms` maps the name of a key, model or route to its histogram. To each line of `groups` the histograms of all
    names in its `members` are added.
    """
    for group in groups:
        for name in group.members:
            group.totals.add_histogram(DURATION, histograms.get(name, []))


def all_others(groups: Iterable[RankedGroup], shown: Iterable[RankedGroup], total: Totals) -> Totals:
    """Adds up the sums of the `groups` that a table does not show as lines of their own; returns them as one `Totals`.

    Only the histogram of durations is not added up: it is the histogram of all calls (`total`) minus those of the
    `shown` groups. So the histograms of the other groups, of which there may be thousands, need not be read.
    """
    totals = Totals()
    for group in groups:
        totals.merge(group.totals)
    totals.add_histogram(DURATION, total.histograms.get(DURATION, []))
    for group in shown:
        totals.add_histogram(DURATION, [-count for count in group.totals.histograms.get(DURATION, [])])
    return totals


def lines_of_models(models: Collection[str]) -> dict[str, str]:
    """Returns a map from the names of models that share a line of a table to the name of this line, which has no date.

    For example, `gpt-4o-2024-08-06` and `gpt-4o` share the line `gpt-4o`. A model that has a line for itself is left
    out.
    """
    names_per_model = Counter(undated_name(name) for name in models)
    return {name: model for name in models if names_per_model[model := undated_name(name)] > 1}


def dates_of(group: RankedGroup) -> Sequence[str]:
    """Returns the dates in the names of the models that this line of a table adds up, such as `2024-07-18`; sorted."""
    return sorted(name.removeprefix(f"{group.name}-") for name in group.members if name != group.name)
