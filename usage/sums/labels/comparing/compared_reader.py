"""Reads sums of calls by label, together with the same groups' dollars in the period before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection

from usage.sums.labels.comparing.compared_sql import Days, compared_sums, days_to_read
from usage.sums.labels.label_groups import ANY_DATE, GroupValue, Only, columns_of, is_of_any_date
from usage.sums.labels.label_reader import GroupSums, lacks_since, sums_of_group
from usage.sums.labels.label_tables import SUMS, typed

MOST_COSTLIEST = 5  # as many values as a chart has lines, besides one for all others
# What a row of the query is, in place of the number of groups that the total has.
SHOWN, COSTLIEST, DAILY = 1, 0, -1
# The groups of a month may be 60,000. With less memory, PostgreSQL writes them into temporary files; a server that
# gives more keeps it. The setting ends with the transaction.
GROUPING_MEMORY = """
    SELECT set_config('work_mem', '64MB', true) WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')
"""
DailyCosts = Mapping[date, Decimal]  # the dollars of each day that has calls
# The SQL expressions by which groups can be sorted; those of the names are `by_0` and `by_1`.
ORDERS = {
    "calls": "calls",
    "failed": "errors",
    "input": "input_tokens",
    "output": "output_tokens",
    "cost": "cost",
    "before": "cost_before",
    # What has cost nothing before has grown by more than everything else.
    "change": """
        CASE WHEN cost_before <> 0 THEN cost_compared / cost_before WHEN cost_compared <> 0 THEN 1e18 ELSE 1 END
    """,
}
COMPARED = ("cost_before", "cost_compared")
FIGURES = (*SUMS, *COMPARED)  # the numbers of a row


class ComparedSums(NamedTuple):
    """The sums of one group of calls, and the dollars that the same group cost in the period before.

    * `cost_before`: None if there is no period before, or if it cannot be read, usually because its rows have been
      deleted.
    * `cost_compared`: the dollars to compare with these: those of the days that are compared, which may be fewer than
      the days of the sums.
    """

    sums: GroupSums
    cost_before: Decimal | None
    cost_compared: Decimal


@dataclass(frozen=True)
class ComparedReport:
    """The sums of the calls of some whole days (UTC) by group, with the dollars of each group in the period before.

    * `rows`: a row for each shown group, which may have calls only in the period before.
    * `others`: the sums of all other groups; None if there are none. `other_groups` is the number of these groups.
    * `total`: the sums of `rows` and `others` together.
    * `costliest`: at most `MOST_COSTLIEST` values of the first group other than the day; empty if there is no such
      group.
    * `daily`: the dollars by day of the values `costliest`, if calls are grouped by day and another group; else None.
    * `lacks_since`: None if the sums include all calls; else the first day or month, of either period, whose sums lack
      some.

    Names of a model that differ only in their date share a row: its value ends with `ANY_DATE`. If the calls of such a
    model are chosen by a filter, each of its names has a row.

    If calls are grouped by day, the first day is compared with the first day of the period before, and so on. If the
    periods have different lengths, the further days of the longer one have no counterpart. Such days of the period
    before are only in the total.
    """

    rows: list[ComparedSums]
    others: ComparedSums | None
    other_groups: int
    total: ComparedSums
    costliest: Sequence[GroupValue]
    daily: Mapping[GroupValue, DailyCosts] | None
    lacks_since: date | None


def read_compared_report(
    days: Days,
    before: Days,
    groups: Sequence[str],
    *,
    only: Only,
    order: str,
    is_falling: bool,
    most: int,
    compared_end: date | None = None,
) -> ComparedReport:
    """Reads the sums of calls on the days `days`, by `groups`, and the dollars of each group on the days `before`.

    Those of `days` until before `compared_end`, by default all, are compared with the days `before`. There may be none.
    `groups` has the name of at least one group, and `only` the filters, as in `read_label_report`. At most `most`
    groups get a row. They are sorted by `order`, from the highest on if `is_falling` is true: a name in `ORDERS`, or
    `by_0` or `by_1` for the value of the first or second group.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for the days `days`.
    """
    lacking, lacking_before = (lacks_since(*period, groups, only) for period in (days, days_to_read(before, groups)[0]))
    compared = compared_sums(
        days, before, compared_end or days[1], groups, only, (lacking is None, lacking_before is None),
        has_lines=not is_of_any_date("model", only.get("model")),
    )  # fmt: skip
    columns = columns_of(groups)
    # Calls and the dollars before come first: nearly every group has one of them, and then no other column is compared.
    shown = f"({' OR '.join(f'{name} <> 0' for name in ('calls', 'cost_before', *SUMS[1:]))})"
    days_shown = [days[1]] if "day" in groups else []
    if days_shown:
        shown += f" AND by_{groups.index('day')} < %s"
    ordered = ", ".join((f"{ORDERS.get(order, order)} {'DESC' if is_falling else 'ASC'} NULLS LAST",
                         "cost DESC", "calls DESC", *columns))  # fmt: skip
    added = [
        *(typed(f"COALESCE(sum({name}), 0)", name) for name in SUMS),
        *(f"COALESCE(sum({name}), 0)" for name in COMPARED),
    ]
    names = [*(typed(name, name) for name in SUMS), *COMPARED]
    query = f"""
        WITH {compared.tables}{_costliest(groups)}
        SELECT {", ".join(("NULL",) * len(columns))}, (SELECT count(*) FROM compared WHERE {shown}),
               {", ".join(added)} FROM {compared.every}
        UNION ALL
        (SELECT {", ".join(columns)}, {SHOWN}, {", ".join(names)}
         FROM (SELECT * FROM compared WHERE {shown} ORDER BY {ordered} LIMIT %s) AS first ORDER BY {ordered})
        {_rows_of_costliest(groups)}
    """
    with connection.cursor() as cursor:
        cursor.execute(GROUPING_MEMORY)
        cursor.execute(query, [*compared.values, *days_shown, *days_shown, most])
        total, *rows = cursor.fetchall()
    if "model" in groups:
        place = groups.index("model")
        rows = [(*row[:place], _read_model(row[place]), *row[place + 1 :]) for row in rows]
    width = len(columns)
    shown_rows = [_read_row(row, width, has_past=compared.has_past) for row in rows if row[width] == SHOWN]
    total_row = _read_row(total, width, has_past=compared.has_past)
    costliest, daily = _read_costliest(groups, [row for row in rows if row[width] != SHOWN])
    rest = total_row.sums.less(row.sums for row in shown_rows)
    rest_before = total_row.cost_before and total_row.cost_before - sum(row.cost_before or 0 for row in shown_rows)
    number = total[width]
    rest_compared = total_row.cost_compared - sum(row.cost_compared for row in shown_rows)
    others = ComparedSums(rest, rest_before, rest_compared) if number > len(shown_rows) or rest.has_use else None
    lacking = lacking_before or lacking
    return ComparedReport(shown_rows, others, number - len(shown_rows), total_row, costliest, daily, lacking)


def _costliest(groups: Sequence[str]) -> str:
    """Returns the SQL of a table `costliest`, to append to a WITH clause: a group's costliest values and their dollars.

    The group is the first one other than the day. If there is no such group, the result is empty.
    """
    column = next((f"by_{number}" for number, name in enumerate(groups) if name != "day"), None)
    if column is None:
        return ""
    table = f"SELECT {column} AS value, cost FROM compared"
    if len(groups) > 1:
        table = f"SELECT {column} AS value, sum(cost) AS cost FROM compared WHERE cost <> 0 GROUP BY {column}"
    return f""", costliest AS MATERIALIZED (
            SELECT value, cost FROM ({table}) AS every_value
            WHERE cost <> 0 ORDER BY cost DESC, value LIMIT {MOST_COSTLIEST}
        )"""


def _rows_of_costliest(groups: Sequence[str]) -> str:
    """Returns SQL that appends rows to a query (`UNION ALL …`): one for each value in the table `costliest`.

    Such a row has only the value and the mark `COSTLIEST`; its other columns are null. If calls are grouped by day and
    another group, further rows, with the mark `DAILY`, have the dollars of these values by day. If calls are grouped by
    nothing but the day, the result is empty.
    """
    place = next((number for number, name in enumerate(groups) if name != "day"), None)
    if place is None:
        return ""
    keys = ["value" if number == place else "NULL" for number in range(len(groups))]
    nulls = ", ".join("NULL" for _ in FIGURES)
    rows = f"""
        UNION ALL (SELECT {", ".join(keys)}, {COSTLIEST}, {nulls} FROM costliest ORDER BY cost DESC, value)
    """
    if "day" not in groups:
        return rows
    dollars = ", ".join(name if name == "cost" else "NULL" for name in FIGURES)
    # Null, which calls without a label have, is equal to nothing.
    return f"""
        {rows} UNION ALL
        SELECT {", ".join(columns_of(groups))}, {DAILY}, {dollars} FROM compared
        WHERE cost <> 0 AND COALESCE(by_{place}, E'\\x02') IN (SELECT COALESCE(value, E'\\x02') FROM costliest)
    """


def _read_costliest(
    groups: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[list[GroupValue], dict[GroupValue, dict[date, Decimal]] | None]:
    """Finds in the rows of a report's query the costliest values of a group; returns them, and their dollars by day.

    `_rows_of_costliest` makes the query return these rows. The dollars are a map from each value to a map from days;
    None unless calls are grouped by day and another group.
    """
    width = len(groups)
    place = next((number for number, name in enumerate(groups) if name != "day"), 0)
    costliest = [row[place] for row in rows if row[width] == COSTLIEST]
    if width == 1 or "day" not in groups:
        return costliest, None
    daily: dict[GroupValue, dict[date, Decimal]] = {}
    for row in rows:
        if row[width] == DAILY:
            daily.setdefault(row[place], {})[row[groups.index("day")]] = row[width + 1 + SUMS.index("cost")]
    return costliest, daily


def _read_model(value: Any) -> Any:
    """Returns the value of a model's line in the result of a query, with `ANY_DATE` for `ANY_DATE_IN_SQL`."""
    return f"{value[:-1]}{ANY_DATE}" if isinstance(value, str) and value.endswith("\x03") else value


def _read_row(row: Sequence[Any], width: int, *, has_past: bool) -> ComparedSums:
    """Converts a row of the report's query to a `ComparedSums`: a group's sums, and the dollars that are compared.

    The row has the `width` values of the group, then a number that is ignored here, then `FIGURES`. If `has_past` is
    false, the dollars of the period before are not known, and become None.
    """
    group, (_, *figures, before, compared) = row[:width], row[width:]
    return ComparedSums(sums_of_group(group, figures), Decimal(before) if has_past else None, Decimal(compared))
