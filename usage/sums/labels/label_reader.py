"""Reads sums of calls by label, in any groups, for `GET /usage` and for pages about money.

Calls can be grouped by any of `COLUMNS`, and by one label (end users, or the values of a tag) in addition. These are
read from the sums by label, by whole months if the range has such. Sums by two labels together are read by
`combined_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from usage.database.snapshot import one_snapshot
from usage.models import Dimension, Span, UsageTotal
from usage.sums.labels.combined_reader import combined_sums
from usage.sums.labels.completeness import SpanRange, first_lacking, has_unnamed
from usage.sums.labels.label_groups import COLUMNS, GroupValue, Only, Parameter, Query, grouping, labels_among
from usage.sums.labels.label_tables import END_USER, OTHERS, SUMS, TABLE, added_up
from usage.sums.ranges import TimeRange
from usage.sums.sum_tables import COST_PARTS

DOLLARS = {"cost", *COST_PARTS}
DAY = timedelta(days=1)


@dataclass(frozen=True)
class GroupSums:
    """The sums of one group of calls; dollars are exact decimals.

    `cost` includes `estimated_cost` and `provisional_cost`. `group` has a value for each requested group, in the same
    order. Some values have a meaning:

    * None: the calls do not have the label.
    * `OTHERS`: several values that have no sums of their own.
    * An empty text: there is no team, owner or model, or the tag has no value.
    """

    group: tuple[GroupValue, ...]
    calls: int
    errors: int
    unpriced_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: Decimal
    estimated_cost: Decimal
    provisional_cost: Decimal

    def less(self, others: Iterable[GroupSums]) -> GroupSums:
        """Subtracts the sums of other groups from these sums, and returns the result, whose `group` is empty."""
        found = list(others)
        return GroupSums((), **{name: getattr(self, name) - sum(getattr(one, name) for one in found) for name in SUMS})

    @property
    def has_use(self) -> bool:
        """True if any of the sums is not zero."""
        return any(getattr(self, name) for name in SUMS)


@dataclass(frozen=True)
class LabelReport:
    """The sums of the calls of some whole days (UTC), from `first` until before `end`, by group.

    * `rows`: the sums of the costliest groups, the costliest first.
    * `others`: the sums of all other groups; None if there are none.
    * `total`: the sums of `rows` and `others` together.
    * `is_part`: true if calls with the requested label or value may be missing from its sums, because they are counted
      together with those of other values, or not by this label.
    * `lacks_since`: the first day or month whose sums lack calls, because an earlier release of the gateway wrote them;
      usually None.
    """

    first: date
    end: date
    rows: list[GroupSums]
    others: GroupSums | None
    total: GroupSums
    is_part: bool = False
    lacks_since: date | None = None


def whole_days(time_range: TimeRange) -> tuple[date, date]:
    """Extends a range of time to whole days (UTC); returns the first day, and the day after the last one."""
    last = time_range.end.astimezone(UTC) - timedelta(microseconds=1)
    return time_range.start.astimezone(UTC).date(), last.date() + DAY


@one_snapshot()
def read_label_report(
    first: date, end: date, groups: Sequence[str], *, only: Only | None = None, most: int, holder: str | None = None
) -> LabelReport:
    """Reads the sums of the calls from the day `first` until before the day `end`, by `groups`; at most `most` rows.

    `groups` are names of `COLUMNS` or of labels, such as `("tag:project", "model")`. `only` maps such names to the
    value that the calls must have; None stands for any value of a label. `holder` is the key whose holder gets the
    report, if it must not tell of the labels of other keys; `only` must then name that key.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    wanted = dict(only or {})
    labels = labels_among(groups, wanted)
    total, *rows = _read(grouped_sums(first, end, groups, wanted), len(groups), most)
    others = total.less(rows) if len(rows) == most else None  # fewer rows are all that there are
    others = others if others and others.has_use else None
    if len(labels) > 1:  # what is read has all calls and all names of tags
        return LabelReport(first, end, rows, others, total)
    periods = _periods(first, end, by_day="day" in groups)
    is_part = any(has_unnamed(periods, label, wanted.get(label), holder) for label in labels)
    return LabelReport(first, end, rows, others, total, is_part, first_lacking(periods))


def lacks_since(first: date, end: date, groups: Sequence[str], only: Only) -> date | None:
    """Returns the first of the given days whose sums by label lack calls; None if there is none.

    The missing calls were logged by an earlier release of the gateway, which wrote no such sums. Whole months are
    examined at once; for a month, its first day is returned. `groups` and `only` are those of `read_label_report`. With
    several labels, the result is None, since only complete sums are read then.
    """
    if len(labels_among(groups, only)) > 1:
        return None
    return first_lacking(_periods(first, end, by_day=False))  # by months, since the sums of years of days are many


def grouped_sums(first: date, end: date, groups: Sequence[str], only: Only, sums: Sequence[str] = SUMS) -> Query:
    """Returns the SQL query that reads the sums of some whole days by `groups`.

    `groups` and `only` are those of `read_label_report`. `sums` are the names in `SUMS` to read: fewer take less time.
    The query returns a row for each group, with the columns `by_0`, `by_1` and so on for the values of the group, and
    `sums`.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    labels = labels_among(groups, only)
    if len(labels) > 1:
        return combined_sums(first, end, groups, only, sums)
    return _group_sums(_periods(first, end, by_day="day" in groups), groups, only, sums, *labels)


def shown_value(group: str, value: GroupValue) -> str | None:
    """Returns the value of a group as text for people, such as "(other end users)" for `OTHERS`.

    None, which stands for the calls without the group's label, stays None.
    """
    if value == OTHERS:
        return "(other end users)" if group == END_USER else "(other values)"
    return value.isoformat() if isinstance(value, date) else value


def _periods(first: date, end: date, *, by_day: bool) -> list[SpanRange]:
    """Divides a range of days into its whole months and the days before and after them; returns the parts.

    The last month counts as whole if it has no calls from `end` on, like the present month up to today. If `by_day` is
    true, the only part is the whole range, whose sums are read by day.
    """
    begin, last = (first if first.day == 1 else _next_month(first)), end.replace(day=1)
    if by_day or begin > last:
        return [("day", first, end)]
    if end > last and not _has_calls(end, _next_month(end)):  # a month has far fewer rows than its days
        last = _next_month(end)
    if begin == last:
        return [("day", first, end)]
    parts: list[SpanRange] = [("day", first, begin), ("month", begin, last), ("day", last, end)]
    return [part for part in parts if part[1] < part[2]]


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def _has_calls(first: date, end: date) -> bool:
    """Returns whether calls were made from the day `first` until before the day `end`."""
    start, until = (datetime.combine(day, time(), UTC) for day in (first, end))
    days = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL, start__gte=start, start__lt=until)
    return days.exists()


def _read(grouped: Query, width: int, most: int) -> list[GroupSums]:
    """Executes a query of `grouped_sums` for `width` groups; returns the total, and then the `most` costliest groups.

    Groups whose sums are all zero are left out.
    """
    sql, values = grouped
    columns = [f"by_{number}" for number in range(width)]
    names = ", ".join((*columns, *SUMS))
    use = " OR ".join(f"{name} <> 0" for name in SUMS)
    order = ", ".join(("cost DESC", "calls DESC", *columns))
    query = f"""
        WITH grouped AS MATERIALIZED ({sql})
        SELECT {", ".join(("NULL",) * width + tuple(f"COALESCE(sum({name}), 0)" for name in SUMS))} FROM grouped
        UNION ALL (SELECT {names} FROM grouped WHERE {use} ORDER BY {order} LIMIT %s)
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [*values, most])
        return [sums_of_group(row[:width], row[width:]) for row in cursor.fetchall()]


def sums_of_group(group: Sequence[GroupValue], figures: Sequence[Decimal]) -> GroupSums:
    """Makes the `GroupSums` of a group from numbers that the database has added up, in the order of `SUMS`."""
    named: dict[str, Any] = {
        name: Decimal(figure) if name in DOLLARS else int(figure) for name, figure in zip(SUMS, figures, strict=True)
    }
    return GroupSums(tuple(group), **named)


def _group_sums(
    periods: Sequence[SpanRange], groups: Sequence[str], only: Only, sums: Sequence[str], label: str = ""
) -> Query:
    """Returns the SQL query that adds up the table of sums by label (end user or tag) by `groups`.

    `label` is the only label among `groups` and `only`, or empty without one. `sums` are the columns to add up.
    """
    columns = {name: COLUMNS.get(name, "value") for name in groups}
    restricted = {COLUMNS.get(name, "value"): value for name, value in only.items() if value is not None}
    keys = [f"{column} AS by_{number}" for number, column in enumerate(columns.values())]
    if label in only or label not in groups:
        rows, values = rows_of_periods(periods, [label], restricted)
        return f"SELECT {', '.join((*keys, *added_up(sums)))} {rows}{grouping(columns.values())}", values
    rows, values = rows_of_periods(periods, ["", label], restricted)
    others = [column for name, column in columns.items() if name != label]
    rest = [f"{'NULL' if name == label else column} AS by_{number}"
            for number, (name, column) in enumerate(columns.items())]  # fmt: skip
    signed = [f"sum(CASE label WHEN '' THEN {name} ELSE -{name} END) AS {name}" for name in sums]
    # The calls without the label are all calls less those with it. The rows, which are many, are read once.
    sql = f"""
        WITH summed AS MATERIALIZED (
            SELECT {", ".join(("label", *columns.values(), *added_up(sums)))} {rows}
            {grouping(["label", *columns.values()])}
        )
        SELECT {", ".join((*keys, *sums))} FROM summed WHERE label <> ''
        UNION ALL SELECT {", ".join((*rest, *signed))} FROM summed{grouping(others)}
    """
    return sql, values


def rows_of_periods(periods: Iterable[SpanRange], labels: Sequence[str], only: Mapping[str, str]) -> Query:
    """Returns the FROM clause of a query for all rows of sums of some labels and periods, with its parameters.

    `only` maps columns to the value that the rows must have. The label "" stands for the sums of all calls.
    """
    names = ", ".join(("label", "value", *COLUMNS.values(), *SUMS))
    conditions = "".join(f" AND {column} = %s" for column in only)
    queries, values = [], list[Parameter]()
    for span, start, end in periods:
        for label in labels:
            queries.append(
                f"SELECT {names} FROM {TABLE} WHERE span = %s AND label = %s AND start >= %s AND start < %s{conditions}"
            )
            values += [span, label, start, end, *only.values()]
    return f"FROM ({' UNION ALL '.join(queries)}) AS source", values
