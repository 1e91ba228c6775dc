"""Reads the dollars of calls day by day: those of the costliest values of a group, and of all other values together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

from django.db import connection

from usage.prices.price_lookup import undated_name
from usage.sums.labels.comparing.compared_reader import DailyCosts
from usage.sums.labels.comparing.compared_sql import Days
from usage.sums.labels.label_groups import ANY_DATE, GroupValue, Only, Query, column_of, is_of_any_date, labels_among
from usage.sums.labels.label_reader import grouped_sums
from usage.sums.labels.span_ranges import SpanRange
from usage.sums.labels.sum_rows import has_totals, rows_of_periods, rows_of_totals


def read_costliest(days: Days, group: str, *, only: Only, most: int, is_complete: bool) -> list[GroupValue]:
    """Returns the values of a group, such as teams, that cost most on the given days: at most `most`, costliest first.

    Values that cost nothing are left out. If the group is a label (end user or tag), None stands for the calls without
    it. `only` maps groups to the value that the counted calls must have. `is_complete` says whether the sums by label
    include all calls of these days.

    Raises:
        LabelsUnreadable: `group` and `only` have two different labels, which cannot be read together for these days.
    """
    sql, values = grouped_sums(*days, (group,), only, ("cost",), is_complete=is_complete)
    with connection.cursor() as cursor:
        query = f"SELECT by_0 FROM ({sql}) AS grouped WHERE cost <> 0 ORDER BY cost DESC, by_0 LIMIT %s"
        cursor.execute(query, [*values, most])
        return [value for (value,) in cursor.fetchall()]


def read_daily_costs(
    days: Days,
    group: str,
    costliest: Sequence[GroupValue],
    *,
    only: Only,
    is_complete: bool,
    known: Mapping[GroupValue, DailyCosts] | None = None,
) -> list[tuple[GroupValue, bool, DailyCosts]]:
    """Reads the dollars by day of the values `costliest` of a group, and of all its other values together.

    Returns a tuple for each value in `costliest`: the value, False, and a map from days to dollars. A last tuple has
    all other values: None, True, and such a map. A tuple is left out if its dollars are 0 on all days.

    `group` and `only` may have one label at most, and `group` must not be the day. `is_complete` says whether the sums
    by label have all calls of these days. `known` has the dollars of the values `costliest`, if they have been read
    before.
    """
    label = next(iter(labels_among((group,), only)), "")
    every = _read_days(_rows(days, label if label in only else "", ("day",), only, is_complete))
    if known is not None:
        costs = dict(known)
    else:
        # The names of a model with any date are not known.
        has_any_date = any(is_of_any_date(group, value) for value in costliest)
        named = None if has_any_date else [str(value) for value in costliest if value is not None]
        costs = _read_named(group, costliest, _rows(days, label, ("day", group), only, is_complete, named))
        if None in costliest:
            with_label = _read_days(_rows(days, label, ("day",), {**only, label: None}, is_complete))
            costs[None] = _less(every, [with_label])
    others = _less(every, list(costs.values()))
    found = [(value, False, costs[value]) for value in costliest if value in costs]
    return [entry for entry in (*found, (None, True, others)) if any(entry[2].values())]


def _rows(
    days: Days, label: str, groups: Sequence[str], only: Only, is_complete: bool, named: list[str] | None = None
) -> Query:
    """Returns an SQL query for the dollars by day, read from the sums of `label` (end user or tag; "" for all calls).

    Its columns are one for each of `groups`, which include the day, and the dollars. If `named` is given, it has the
    values to be read of the last group; rows with other values are left out.
    """
    among = {} if named is None else {groups[-1]: named}
    if not label and is_complete and has_totals(groups, only):
        return rows_of_totals(*days, groups, only, ("cost",), among)
    return rows_of_periods([SpanRange("day", *days)], label, groups, only, ("cost",), among)


def _read_days(rows: Query) -> DailyCosts:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT start, sum(cost) FROM ({rows[0]}) AS source GROUP BY start", rows[1])
        return dict(cursor.fetchall())


def _read_named(group: str, values: Sequence[GroupValue], rows: Query) -> dict[GroupValue, DailyCosts]:
    """Reads the dollars by day of some values of a group; returns a map from each value to its dollars by day.

    `rows` is the SQL query for the sums to read. Values without sums are left out.
    """
    found: dict[GroupValue, dict[date, Decimal]] = {}
    with connection.cursor() as cursor:
        query = f"SELECT {column_of(group)}, start, sum(cost) FROM ({rows[0]}) AS source GROUP BY 1, 2"
        cursor.execute(query, rows[1])
        for value, day, cost in cursor:
            line = value if value in values else f"{undated_name(value)}{ANY_DATE}"
            if line in values:
                daily = found.setdefault(line, {})
                daily[day] = daily.get(day, Decimal(0)) + cost
    return dict(found)


def _less(costs: DailyCosts, others: Sequence[DailyCosts]) -> DailyCosts:
    """Subtracts the dollars in `others` from those of the same day in `costs`; returns the differences by day."""
    return {day: cost - sum(other.get(day, 0) for other in others) for day, cost in costs.items()}
