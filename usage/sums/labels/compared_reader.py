"""Reads sums of calls by label, together with the same groups' dollars in the period before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import connection

from usage.sums.labels.label_groups import GroupValue, LabelsUnreadable, Only, Query
from usage.sums.labels.label_reader import GroupSums, grouped_sums, lacks_since, sums_of_group
from usage.sums.labels.label_tables import SUMS

MOST_COSTLIEST = 5  # as many values as a chart has lines, besides one for all others
Days = tuple[date, date]  # the first day (UTC), and the day after the last one
# The SQL expressions by which groups can be sorted; those of the names are `by_0` and `by_1`.
ORDERS = {
    "calls": "calls",
    "failed": "errors",
    "input": "input_tokens",
    "output": "output_tokens",
    "cost": "cost",
    "before": "cost_before",
    # What has cost nothing before has grown by more than everything else.
    "change": "CASE WHEN cost_before <> 0 THEN cost / cost_before WHEN cost <> 0 THEN 1e18 ELSE 1 END",
}


@dataclass(frozen=True)
class ComparedSums:
    """The sums of one group of calls, and the dollars that the same group cost in the period before.

    `cost_before` is None if the period before cannot be read, usually because its rows have been deleted.
    """

    sums: GroupSums
    cost_before: Decimal | None


@dataclass(frozen=True)
class ComparedReport:
    """The sums of the calls of some whole days (UTC) by group, with the dollars of each group in the period before.

    * `rows`: a row for each shown group, which may have calls only in the period before.
    * `others`: the sums of all other groups; None if there are none. `other_groups` is the number of these groups.
    * `total`: the sums of `rows` and `others` together.
    * `costliest`: at most `MOST_COSTLIEST` values of the first group that is not the day; empty if there is no such
      group.
    * `lacks_since`: usually None; else the first day or month of either period with sums that do not include all calls
      (`label_reader.lacks_since`).

    If calls are grouped by day, the first day is compared with the first day of the period before, and so on. Further
    days of a longer period are compared with nothing; those of the period before are only in the total.
    """

    rows: list[ComparedSums]
    others: ComparedSums | None
    other_groups: int
    total: ComparedSums
    costliest: Sequence[GroupValue]
    lacks_since: date | None = None


def read_compared_report(
    days: Days, before: Days, groups: Sequence[str], *, only: Only, order: str, is_falling: bool, most: int
) -> ComparedReport:
    """Reads the sums of the calls of some days by `groups`, with the dollars of the days `before`; at most `most` rows.

    `groups` (at least one) and `only` are like those of `read_label_report`. `order` is a name in `ORDERS`, or `by_0`
    or `by_1` for the value of the first or second group. With `is_falling`, the highest come first.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for the days `days`.
    """
    lacking, lacking_before = (lacks_since(*period, groups, only) for period in (days, before))
    present = grouped_sums(*days, groups, only, is_complete=lacking is None)
    past: Query | None = None
    with suppress(LabelsUnreadable):  # rows of the period before have been deleted; those of this one have not
        past = grouped_sums(*before, groups, only, ("cost",), is_complete=lacking_before is None)
    sql, values = _compared(present, past, groups, (days[0] - before[0]).days)
    columns = _columns(groups)
    shown = f"({' OR '.join(f'{name} <> 0' for name in (*SUMS, 'cost_before'))})"
    days_shown = [days[1]] if "day" in groups else []
    if days_shown:
        shown += f" AND by_{groups.index('day')} < %s"
    ordered = ", ".join((f"{ORDERS.get(order, order)} {'DESC' if is_falling else 'ASC'} NULLS LAST",
                         "cost DESC", "calls DESC", *columns))  # fmt: skip
    names = (*SUMS, "cost_before")
    query = f"""
        {sql}
        SELECT {", ".join(("NULL",) * len(columns))}, count(*) FILTER (WHERE {shown}),
               {", ".join(f"COALESCE(sum({name}), 0)" for name in names)} FROM compared
        UNION ALL
        (SELECT {", ".join(columns)}, 1, {", ".join(names)} FROM compared WHERE {shown} ORDER BY {ordered} LIMIT %s)
        {_costliest(groups)}
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [*values, *days_shown, *days_shown, most])
        total, *rows = cursor.fetchall()
    width, has_past = len(columns), past is not None
    return _report(
        [_read_row(row, width, has_past=has_past) for row in rows if row[width]],
        _read_row(total, width, has_past=has_past),
        total[width],
        [next((value for value in row[:width] if value is not None), None) for row in rows if not row[width]],
        lacking_before or lacking,
    )


def _report(
    rows: list[ComparedSums], total: ComparedSums, number: int, costliest: list[GroupValue], lacking: date | None
) -> ComparedReport:
    rest = total.sums.less(row.sums for row in rows)
    rest_before = total.cost_before and total.cost_before - sum(row.cost_before or 0 for row in rows)
    others = ComparedSums(rest, rest_before) if number > len(rows) or rest.has_use else None
    return ComparedReport(rows, others, number - len(rows), total, costliest, lacking)


def _costliest(groups: Sequence[str]) -> str:
    """Returns the end of an SQL query, which adds rows for the costliest values of the first group that is not the day.

    In such a row, the number of groups is 0, and all columns except that of the value are null. If there is no such
    group, the text is empty.
    """
    place = next((number for number, name in enumerate(groups) if name != "day"), None)
    if place is None:
        return ""
    column = f"by_{place}"
    keys = [column if number == place else "NULL" for number in range(len(groups))]
    nulls = ", ".join("NULL" for _ in (*SUMS, "cost_before"))
    return f"""
        UNION ALL
        (SELECT {", ".join(keys)}, 0, {nulls} FROM compared
         GROUP BY {column} HAVING sum(cost) <> 0 ORDER BY sum(cost) DESC, {column} LIMIT {MOST_COSTLIEST})
    """


def _columns(groups: Sequence[str]) -> list[str]:
    return [f"by_{number}" for number in range(len(groups))]


def _compared(present: Query, past: Query | None, groups: Sequence[str], shift: int) -> Query:
    """Returns the WITH clause of an SQL query: it defines the table `compared`, with each group's sums in two periods.

    The columns `SUMS` are of the present period; `cost_before` has the dollars of the period before. If that cannot be
    read, `past` is None, and `cost_before` is 0. `shift` is the number of days between the beginnings of the periods.
    """
    columns = _columns(groups)
    if past is None:
        names = ", ".join((*columns, *SUMS, "0::numeric AS cost_before"))
        return f"WITH compared AS MATERIALIZED (SELECT {names} FROM ({present[0]}) AS present)", list(present[1])
    # A day is compared with that of the same number; calls without a label have null, which is equal to nothing.
    pairs = [
        (f"present.{column}", f"past.{column} + {shift}", f"present.{column} = past.{column} + {shift}")
        if name == "day"
        else (f"present.{column}", f"past.{column}", _same(column))
        for name, column in zip(groups, columns, strict=True)
    ]
    keys = [f"COALESCE({one}, {other}) AS {column}" for (one, other, _), column in zip(pairs, columns, strict=True)]
    sums = [f"COALESCE(present.{name}, 0) AS {name}" for name in SUMS]
    sql = f"""
        WITH compared AS MATERIALIZED (
            SELECT {", ".join((*keys, *sums))}, COALESCE(past.cost, 0) AS cost_before
            FROM ({present[0]}) AS present FULL JOIN ({past[0]}) AS past
                ON {" AND ".join(condition for _, _, condition in pairs)}
        )
    """
    return sql, [*present[1], *past[1]]


def _same(column: str) -> str:
    """Returns the SQL condition, for a join, that a column is equal in both periods; null is equal to null."""
    return " = ".join(f"COALESCE({period}.{column}, E'\\x02')" for period in ("present", "past"))


def _read_row(row: tuple[Any, ...], width: int, *, has_past: bool) -> ComparedSums:
    """Converts a row from the database to the sums of its group, with the dollars of the period before.

    The row has `width` values of the group, then the number of groups (which is ignored), then the sums. Without
    `has_past`, the dollars of the period before become None.
    """
    group, (_, *figures, before) = row[:width], row[width:]
    return ComparedSums(sums_of_group(group, figures), Decimal(before) if has_past else None)
