"""Reads the dollars of calls day by day: those of the costliest values of a group, and of all other values together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

from django.db import connection

from usage.models import Dimension, Span, UsageTotal
from usage.sums.labels.compared_reader import Days
from usage.sums.labels.label_groups import COLUMNS, GroupValue, Only, labels_among
from usage.sums.labels.label_reader import grouped_sums, rows_of_periods

DailyCosts = Mapping[date, Decimal]  # the dollars of each day that has calls


def read_costliest(days: Days, group: str, *, only: Only, most: int) -> list[GroupValue]:
    """Returns the `most` values of a group that cost most on the given days, the costliest first.

    `group` is, for example, `team`; the value None stands for the calls without a label. Values that cost nothing are
    left out. `only` restricts the calls, as in `read_label_report`.

    Raises:
        LabelsUnreadable: group and filters have two labels, which cannot be read together for these days.
    """
    sql, values = grouped_sums(*days, (group,), only, ("cost",))
    with connection.cursor() as cursor:
        query = f"SELECT by_0 FROM ({sql}) AS grouped WHERE cost <> 0 ORDER BY cost DESC, by_0 LIMIT %s"
        cursor.execute(query, [*values, most])
        return [value for (value,) in cursor.fetchall()]


def read_daily_costs(
    days: Days, group: str, costliest: Sequence[GroupValue], *, only: Only
) -> list[tuple[GroupValue, bool, DailyCosts]]:
    """Reads the dollars by day of the values `costliest` of a group, and of all its other values together.

    Each entry has a value, whether the entry is that of all others, and a map from days to dollars. The entry of the
    others is the last one. Entries without dollars are left out.

    `group` and `only` may have one label at most, and `group` must not be the day.
    """
    label = next(iter(labels_among((group,), only)), "")
    if label in only or label != group:
        costs = _read(days, label, group, only, costliest)
        others = costs.pop(None, {})
    else:
        every = _read(days, "", group, only, ()).get(None, {}) if only else _read_all(days)
        # The values that are not among the costliest have most of the rows. They are read only if what they cost must
        # be told from what the calls without the label cost.
        costs = _read(days, label, group, only, costliest, is_rest_read=None in costliest)
        rest = costs.pop(None, {})
        others = _less(every, [rest, *costs.values()])
        if None in costliest:
            costs[None], others = others, rest
    found = [(value, False, costs[value]) for value in costliest if value in costs]
    return [entry for entry in (*found, (None, True, others)) if any(entry[2].values())]


def _read(
    days: Days, label: str, group: str, only: Only, named: Sequence[GroupValue], *, is_rest_read: bool = True
) -> dict[GroupValue, DailyCosts]:
    """Reads the dollars by day of the values `named` of a group; the key None has those of all other values together.

    `label` is the label by which the sums count the calls; "" reads the sums of all calls. If `is_rest_read` is false,
    the other values are not read.
    """
    column = COLUMNS.get(group, "value")
    restricted = {COLUMNS.get(name, "value"): value for name, value in only.items() if value is not None}
    rows, values = rows_of_periods([("day", *days)], [label], restricted)
    names = [str(value) for value in named if value is not None]
    query = f"SELECT CASE WHEN {column} = ANY(%s::text[]) THEN {column} END, start, sum(cost) {rows}"
    if not is_rest_read:
        query += f" WHERE {column} = ANY(%s::text[])"
    found: defaultdict[GroupValue, dict[date, Decimal]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(f"{query} GROUP BY 1, 2", [names, *values, *([] if is_rest_read else [names])])
        for value, day, cost in cursor:
            found[value][day] = cost
    return dict(found)


def _less(costs: DailyCosts, others: Sequence[DailyCosts]) -> DailyCosts:
    """Subtracts the dollars in `others` from those of the same day in `costs`; returns the differences by day."""
    return {day: cost - sum(other.get(day, 0) for other in others) for day, cost in costs.items()}


def _read_all(days: Days) -> DailyCosts:
    """Reads the dollars of all calls on each of the given days, from the totals of days."""
    first, end = (datetime.combine(day, time(), UTC) for day in days)
    totals = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL, start__gte=first, start__lt=end)
    return {start.date(): cost for start, cost in totals.values_list("start", "cost")}
