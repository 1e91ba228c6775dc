"""The rows of sums that a report adds up: of the sums by label, or of the totals of days.

The table of sums by label (`LabelTotal`) counts all calls under the label "", by key, team, owner, model and route
together. Where a report needs none of these, or one that has totals of its own, the totals of days (`UsageTotal`) say
the same in far fewer rows: one a day instead of thousands. Where a report needs a label, but neither its values nor a
column, the grand totals (`LabelGrandTotal`) likewise have one row a day. All are written in one transaction, and must
be read in one snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain

from usage.models import Dimension
from usage.sums.labels.label_groups import COLUMNS, VALUE, Only, Parameter, Query, column_of, condition, is_label
from usage.sums.labels.label_tables import GRAND_TOTALS, OTHERS, TABLE
from usage.sums.labels.span_ranges import SpanRange

DAY = timedelta(days=1)
# The groups and filters that have totals of their own.
DIMENSIONS = {"key": Dimension.KEY, "model": Dimension.MODEL, "route": Dimension.ROUTE}


def days_between(first: date, end: date) -> list[date]:
    """Returns the days from `first` until before `end`."""
    return [first + DAY * number for number in range((end - first).days)]


def has_totals(groups: Collection[str], only: Only) -> bool:
    """Returns whether a report with these groups and filters can be read from the totals by day (`rows_of_totals`).

    Besides the day and labels (end user or tags, which are ignored), the groups and filters may name only one column:
    the key, the model or the route. The result is also False if there are groups by key, but not by day, and no filter
    for a key: then the sums by label are quicker to read, since they have whole months.
    """
    names = {name for name in (*groups, *only) if name != "day" and not is_label(name)}
    if not names:
        return True
    return len(names) == 1 and names <= DIMENSIONS.keys() and (names != {"key"} or "day" in groups or "key" in only)


def has_grand_totals(groups: Collection[str], only: Only) -> bool:
    """Returns whether a report with these groups and filters can be read from the grand totals of a label.

    This is so if the calls are not grouped but by day, and the only filter, if any, is for any value of a label.
    """
    return set(groups) <= {"day"} and all(is_label(name) and value is None for name, value in only.items())


def rows_of_totals(
    first: date,
    end: date,
    groups: Collection[str],
    only: Only,
    sums: Sequence[str],
    named: Mapping[str, list[str]] | None = None,
    day: str = "",
) -> Query:
    """Returns an SQL query for the stored totals of all calls on the days from `first` until before `end`.

    Use this only if `has_totals` is true for `groups` and `only`. The columns of the result are one for each of
    `groups`, without labels (end user or tags), then `sums`. `only` and `named` restrict the calls: they map groups to
    the one value, or to the several values, that the calls may have; labels are ignored. `day` is an SQL expression for
    a day: if given, only this day is read.
    """
    name = next((name for name in (*groups, *only) if name in DIMENSIONS), None)
    expressions = {COLUMNS["day"]: "(start AT TIME ZONE 'UTC')::date"} | ({COLUMNS[name]: "value"} if name else {})
    columns = [f"{expressions[column]} AS {column}" for column in (COLUMNS[one] for one in groups if not is_label(one))]
    starts: list[Parameter]
    if day:
        days, starts = f"start = ({day})::timestamp AT TIME ZONE 'UTC' AND start < %s", [_midnight(end)]
    else:  # all days one by one, so that one key's rows are found by the primary key, in which the key comes later
        days, starts = "start = ANY(%s)", [[_midnight(one) for one in days_between(first, end)]]
    sql = f"""
        SELECT {", ".join((*columns, *sums))} FROM usage_usagetotal
        WHERE span = 'day' AND dimension = %s AND {days}
    """
    values: list[Parameter] = [DIMENSIONS[name] if name else Dimension.ALL, *starts]
    if name and (value := only.get(name)) is not None:
        restriction, parameters = condition(name, "value", value)
        sql, values = f"{sql} AND {restriction}", [*values, *parameters]
    if named and name:
        sql, values = f"{sql} AND value = ANY(%s)", [*values, named[name]]
    return sql, values


def rows_of_periods(
    periods: Iterable[SpanRange],
    label: str,
    groups: Sequence[str],
    only: Only,
    sums: Sequence[str],
    named: Mapping[str, list[str]] | None = None,
    day: str = "",
) -> Query:
    """Returns an SQL query for the stored sums of calls by the values of a label (end user or tag), in some periods.

    If `label` is "", the sums are those of all calls, and the result has no column for the label's value. The columns
    of the result are one for each of `groups` (named as `column_of` says), then `sums`. `only` and `named` restrict the
    calls: they map groups to the one value, or to the several values, that the calls may have. `day` is an SQL
    expression for a day: if given, only this day is read.
    """
    table = GRAND_TOTALS if has_grand_totals(groups, only) else TABLE
    columns = [column for column in map(column_of, groups) if label or column != VALUE]
    restrictions = [condition(name, column_of(name), value) for name, value in only.items() if value is not None]
    among = {column_of(name): values for name, values in (named or {}).items()}
    conditions = [*(f" AND {sql}" for sql, _ in restrictions), *(f" AND {column} = ANY(%s)" for column in among)]
    queries, values = [], list[Parameter]()
    for span, start, end, is_subtracted in periods:
        days, bounds = "start >= %s AND start < %s", list[Parameter]((start, end))
        if day:
            days, bounds = f"start = {day} AND start < %s", [end]
        elif VALUE in among:  # all days one by one: in the primary key, the value comes after the day
            days, bounds = "start = ANY(%s)", [days_between(start, end)]
        added = [f"-{name} AS {name}" if is_subtracted else name for name in sums]
        queries.append(
            f"SELECT {', '.join((*columns, *added))} FROM {table}"
            f" WHERE span = %s AND label = %s AND {days}{''.join(conditions)}"
        )
        values += [span, label, *bounds, *chain.from_iterable(one for _, one in restrictions), *among.values()]
    return " UNION ALL ".join(queries), values


def named_as_in_month(rows: Query, label: str, chosen: str | None, day: date, columns: Sequence[str]) -> Query:
    """Returns the SQL query `rows` with the values of `label` as the sums of the month of `day` name them.

    `rows` has the columns `columns` and `cost`, of days in this month; if `chosen` is given, of calls whose value of
    the label is `chosen`. A value that has no sums of its own in the month, since the month had as many values as it
    may, becomes `OTHERS`. Rows whose calls the month does not count are left out: all rows if the month has no sums of
    the label, since it had too many tags, or none of the value `chosen`.
    """
    known = f"SELECT value FROM {TABLE} WHERE span = 'month' AND label = %s AND start = %s"
    month: list[Parameter] = [label, day.replace(day=1)]
    names, renaming = list(columns), list[Parameter]()
    if VALUE in columns:
        is_unknown = f"EXISTS ({known} AND value = '{OTHERS}') AND value NOT IN ({known})"
        value = f"CASE WHEN {is_unknown} THEN '{OTHERS}' ELSE value END AS value"
        names, renaming = [value if column == VALUE else column for column in columns], [*month, *month]
    counted, values = (known, month) if chosen is None else (f"{known} AND value = %s", [*month, chosen])
    sql = f"SELECT {', '.join((*names, 'cost'))} FROM ({rows[0]}) AS one WHERE EXISTS ({counted})"
    return sql, [*renaming, *rows[1], *values]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
