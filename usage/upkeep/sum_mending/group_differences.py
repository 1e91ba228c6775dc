"""Computes by how much groups of a table of sums are wrong, and adds the differences to the table in steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import connection, transaction

from usage.sums.histogram import unpack
from usage.sums.sum_tables import TAKE_TURN, SumTable
from usage.sums.totals_rollup import Group, as_json
from usage.upkeep.differing_sums import DOUBLES, LOCK_AS_WRITER

MOST_GROUPS = 500  # are added in one transaction; a writer waits for its end if it adds to the same groups
ROUNDING = 1e-6  # the share by which two sums of doubles may differ, since they depend on the order of adding


def missing_groups(
    table: SumTable, right: Iterable[Group], stored: Iterable[Group], *, histograms: bool = True
) -> list[Group]:
    """Returns the groups to add to a table of sums, so that its `stored` groups become equal to the `right` ones.

    A stored group that is not among the right ones becomes zero. Two kinds of figures cannot be corrected by adding: a
    maximum that is too high, and a minimum that is too low; they stay. If `histograms` is false, the table's histograms
    are not changed.
    """
    wanted, found = (
        {tuple(group[key] for key in table.keys): group for group in groups} for groups in (right, stored)
    )  # fmt: skip
    return [
        difference
        for key in sorted({*wanted, *found})
        if (difference := _difference(table, wanted.get(key), found.get(key), histograms=histograms)) is not None
    ]


def add_groups(statement: str, groups: list[Group]) -> None:
    """Adds the amounts in `groups` to the groups of a table of sums, in transactions of `MOST_GROUPS` groups.

    `statement` is the SQL that adds them (`SumTable.add`). Takes the same locks as the code that writes calls, and so
    waits while other code, such as `without_writers`, keeps all writers out.

    Raises:
        django.db.Error: the database has failed; earlier transactions are committed.
    """
    for first in range(0, len(groups), MOST_GROUPS):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(TAKE_TURN)
            cursor.execute(LOCK_AS_WRITER)
            cursor.execute(statement, [as_json(groups[first : first + MOST_GROUPS])])


def _difference(table: SumTable, right: Group | None, stored: Group | None, *, histograms: bool) -> Group | None:
    """Returns the amounts that turn one group's `stored` sums into the `right` ones when added; None if they are equal.

    `right` or `stored` is None if the group has no such sums: they count as zeros. Histograms are compared only if
    `histograms` is true.
    """
    known: Any = right or stored
    new: Any = right or {}
    old: Any = stored or {}
    counters = {name: _less(name, new.get(name, 0), old.get(name, 0)) for name in table.counters}
    outer = {name: known[name] for name in (*table.maxima, *table.minima)}
    lists: dict[str, list[int]] = {name: [] for name in (*table.histograms, *table.packed)}
    if histograms:
        lists |= {name: _less_each(new.get(name, []), old.get(name, [])) for name in table.histograms}
        lists |= {name: _less_packed(new.get(name, []), old.get(name, [])) for name in table.packed}
    raised = stored is not None and any(new.get(name, old[name]) > old[name] for name in table.maxima)
    if any(counters.values()) or any(map(any, lists.values())) or raised:
        return {**{name: known[name] for name in table.keys}, **counters, **outer, **lists}
    return None


def _less(name: str, new: Any, old: Any) -> Any:
    if name in DOUBLES:
        return 0 if abs(new - old) <= ROUNDING * max(1, abs(new)) else new - old
    return new - old


def _less_each(new: Sequence[int], old: Sequence[int]) -> list[int]:
    """Subtracts the histogram `old` from `new`, bucket by bucket; returns an empty list if both are equal."""
    counts = list(_differences(new, old))
    return counts if any(counts) else []


def _less_packed(new: Sequence[int], old: Sequence[int]) -> list[int]:
    """Subtracts the packed histogram `old` from `new`; returns a packed histogram, empty if they are equal."""
    counts = list(_differences(unpack(new), unpack(old)))
    numbers = [number for number, count in enumerate(counts) if count]
    return [numbers[0], *counts[numbers[0] : numbers[-1] + 1]] if numbers else []


def _differences(new: Sequence[int], old: Sequence[int]) -> Iterator[int]:
    for number in range(max(len(new), len(old))):
        yield (new[number] if number < len(new) else 0) - (old[number] if number < len(old) else 0)
