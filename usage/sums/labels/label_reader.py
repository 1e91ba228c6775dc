"""Reads sums of calls by label, in any groups, for `GET /usage` and for pages about money.

Calls can be grouped by any of `COLUMNS`, and by one label (end users, or the values of a tag) in addition. These are
read from the sums by label, by whole months if the range has such. Sums by two labels together are read by
`combined_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any, NamedTuple

from django.db import connection

from usage.database.snapshot import one_snapshot
from usage.models import Dimension, Span, UsageTotal
from usage.sums.labels.combined_reader import combined_sums
from usage.sums.labels.completeness import SpanRange, first_lacking, has_unnamed
from usage.sums.labels.label_groups import VALUE, GroupValue, Only, Query, column_of, grouping, is_label, labels_among
from usage.sums.labels.label_tables import COST_LATER, END_USER, OTHERS, SUMS, added_up, typed
from usage.sums.labels.sum_rows import has_totals, named_as_in_month, rows_of_periods, rows_of_totals, with_later
from usage.sums.ranges import TimeRange

DAY = timedelta(days=1)


class GroupSums(NamedTuple):
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
        own: tuple[Any, ...] = self[1:]
        added: Iterable[Any] = map(sum, zip(*(other[1:] for other in others), strict=True))
        rest: list[Any] = [one - more for one, more in zip_longest(own, added, fillvalue=0)]
        return GroupSums((), *rest)

    @property
    def has_use(self) -> bool:
        """True if any of the sums is not zero."""
        return any(self[1:])


@dataclass(frozen=True)
class LabelReport:
    """The sums of the calls of some whole days (UTC), from `first` until before `end`, by group.

    * `rows`: the sums of the costliest groups, the costliest first.
    * `others`: the sums of all other groups; None if there are none.
    * `total`: the sums of `rows` and `others` together.
    * `is_part`: true if the sums of a requested label or value may lack calls. Such calls are counted among the other
      values of the label, or not by the label at all.
    * `lacks_since`: None if the sums have all calls; else the first day or month whose sums lack calls, because an
      earlier release of the gateway wrote them.
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
    """Reads the sums of the calls from the day `first` until before the day `end` (UTC), by the given groups.

    * `groups`: names of columns (`COLUMNS`) or of labels, such as `("tag:project", "model")`.
    * `only`: the filters, as a map from such a name to the value that calls must have. For a label, None means any
      value.
    * `most`: how many groups have a row of their own; the costliest do.
    * `holder`: the name of the key whose holder gets the report; None for an administrator. `only` must then name this
      key. The report reveals nothing of other keys' labels.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    wanted = dict(only or {})
    labels = labels_among(groups, wanted)
    since = lacks_since(first, end, groups, wanted)
    grouped = grouped_sums(first, end, groups, wanted, is_complete=since is None)
    total, *rows = _read(grouped, len(groups), most)
    others = total.less(rows) if len(rows) == most else None  # fewer rows are all that there are
    others = others if others and others.has_use else None
    if len(labels) > 1:  # what is read has all calls and all names of tags
        return LabelReport(first, end, rows, others, total)
    periods = _periods(first, end, by_day="day" in groups)
    is_part = any(has_unnamed(periods, label, wanted.get(label), holder) for label in labels)
    return LabelReport(first, end, rows, others, total, is_part, since and first_lacking(periods))


def lacks_since(first: date, end: date, groups: Sequence[str], only: Only) -> date | None:
    """Returns the first of the given days whose sums by label lack calls; None if no sums lack calls.

    An earlier release of the gateway logged the lacking calls, and wrote no such sums. Of a whole month, the first day
    is returned. `groups` and `only` are the names and filters of a report, as for `read_label_report`. If they have
    several labels, the result is None: such a report is read from other sums, which are complete.
    """
    if len(labels_among(groups, only)) > 1:
        return None
    return first_lacking(_periods(first, end, by_day=False))  # by months, since the sums of years of days are many


def grouped_sums(
    first: date,
    end: date,
    groups: Sequence[str],
    only: Only,
    sums: Sequence[str] = SUMS,
    *,
    is_complete: bool,
    day: str = "",
    later: date | None = None,
    has_rest: bool = True,
    lines: str = "",
) -> Query:
    """Returns the SQL query that reads the sums of the calls of some whole days, with one row for each group.

    `groups` and `only` are names and filters as for `read_label_report`; `sums` are the names in `SUMS` to read: fewer
    take less time. The columns `by_0`, `by_1` and so on have the values that identify a group, the other columns its
    sums.

    `is_complete` says that the sums by label have all calls of these days (`lacks_since` returned None). Then the sums
    of all calls may be read from the totals of days, which is quicker.

    `day` is for a query that is part of another one, which runs day by day: the SQL of the day. Only that day is read.
    It must not be before `first`; a day from `end` on has no calls. Groups and filters may then have at most one label,
    and `groups` not the day.

    If `has_rest` is false and `groups` has a label, calls without the label are left out. Only then, or without a label
    in `groups`, may these be given: `later`, a day from which on dollars also count for a last column `COST_LATER`, and
    `lines`, the name of a table in the statement: of a model's `name`, it has the `line` that is counted in its place.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    labels = labels_among(groups, only)
    if len(labels) > 1:
        return combined_sums(first, end, groups, only, sums, later)
    label = labels[0] if labels else ""
    by_day = bool(day) or "day" in groups
    of_totals = is_complete and label not in only and has_totals((*groups, "day") if by_day else groups, only)
    periods = [] if of_totals and not label else _periods(first, end, by_day=by_day)

    def read(label: str, start: date, periods: Sequence[SpanRange], sums: Sequence[str]) -> Query:
        if of_totals and not label:
            return rows_of_totals(start, end, groups, only, sums, day=day)
        return rows_of_periods(periods, label, groups, only, sums, day=day)

    def rows(label: str) -> Query:
        every = read(label, first, periods, sums)
        if later is None:
            return every
        columns = [column_of(name) for name in groups if label or not is_label(name)]
        more = read(label, later, [("day", later, end)], ("cost",))
        if VALUE in columns and any(span == "month" and start <= later < until for span, start, until in periods):
            more = named_as_in_month(more, label, later, columns)
        return with_later(every, more, columns, sums)

    if label in only or not label or not has_rest:
        return _grouped(rows(label), groups, sums if later is None else (*sums, COST_LATER), lines)
    return _with_rest(rows(label), rows(""), groups, sums)


def shown_value(group: str, value: GroupValue) -> str | None:
    """Returns one value of a usage report's grouping as text to show; None, for calls without the label, stays None.

    `group` is the name of the grouping, such as `end_user` or `day`. A day becomes ISO text. `OTHERS` (several values
    that have no sums of their own) becomes "(other end users)" or "(other values)".
    """
    if value == OTHERS:
        return "(other end users)" if group == END_USER else "(other values)"
    return value.isoformat() if isinstance(value, date) else value


def _periods(first: date, end: date, *, by_day: bool) -> list[SpanRange]:
    """Divides a range of days into the whole months in it, and the days before and after these months.

    Returns up to three parts: the unit (`day` or `month`), the first day, and the day after the last one. The last
    month also counts as whole if no calls were made after the range, as in the present month until today. If `by_day`
    is true, or no month is whole, the range is one part, to be read by day.
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
    """Executes a query made by `grouped_sums`; returns the total of all groups, then the `most` costliest groups.

    `width` is the number of columns that identify a group (`by_0` and so on). A group whose sums are all zero is left
    out.
    """
    sql, values = grouped
    columns = [f"by_{number}" for number in range(width)]
    names = ", ".join((*columns, *(typed(name, name) for name in SUMS)))
    added = [typed(f"COALESCE(sum({name}), 0)", name) for name in SUMS]
    use = " OR ".join(f"{name} <> 0" for name in SUMS)
    order = ", ".join(("cost DESC", "calls DESC", *columns))
    query = f"""
        WITH grouped AS MATERIALIZED ({sql})
        SELECT {", ".join((*("NULL",) * width, *added))} FROM grouped
        UNION ALL (SELECT {names} FROM grouped WHERE {use} ORDER BY {order} LIMIT %s)
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [*values, most])
        return [sums_of_group(row[:width], row[width:]) for row in cursor.fetchall()]


def sums_of_group(group: Sequence[GroupValue], figures: Sequence[Any]) -> GroupSums:
    """Makes a `GroupSums` from the values that identify a group of calls, and from the group's sums.

    `figures` are the sums as the database has returned them, in the order of the names in `SUMS`.
    """
    return GroupSums(tuple(group), *figures)


def _grouped(rows: Query, groups: Sequence[str], sums: Sequence[str], lines: str = "") -> Query:
    """Returns the SQL query that adds up the rows of the query `rows`, with one row of sums for each group.

    `groups` are names such as `model` or `tag:project`; their values are the result's columns `by_0`, `by_1` and so on.
    `sums` are the names of the columns to add up. `lines` has the same meaning as for `grouped_sums`.
    """
    columns = ["COALESCE(line, model)" if lines and name == "model" else column_of(name) for name in groups]
    keys = [f"{column} AS by_{number}" for number, column in enumerate(columns)]
    source = f"({rows[0]}) AS source{f' LEFT JOIN {lines} ON name = model' if lines else ''}"
    return f"SELECT {', '.join((*keys, *added_up(sums)))} FROM {source}{grouping(columns)}", rows[1]


def _with_rest(labelled: Query, every: Query, groups: Sequence[str], sums: Sequence[str]) -> Query:
    """Returns the SQL query that adds up all calls by `groups`, one of which is a label that some calls do not have.

    The query `labelled` has the sums of calls with the label, by its values; the query `every` has those of all calls.
    The sums of calls without the label are the difference of the two; the label's value is null there.
    """
    columns = [column_of(name) for name in groups]
    keys = [f"{column} AS by_{number}" for number, column in enumerate(columns)]
    others = [column for column in columns if column != VALUE]
    rest = [f"{'NULL' if column == VALUE else column} AS by_{number}" for number, column in enumerate(columns)]
    less = [f"-{name} AS {name}" for name in sums]
    sql = f"""
        WITH summed AS MATERIALIZED (
            SELECT {", ".join((*columns, *added_up(sums)))} FROM ({labelled[0]}) AS source{grouping(columns)}
        )
        SELECT {", ".join((*keys, *sums))} FROM summed
        UNION ALL
        SELECT {", ".join((*rest, *(f"sum({name}) AS {name}" for name in sums)))}
        FROM ({every[0]} UNION ALL SELECT {", ".join((*others, *less))} FROM summed) AS source{grouping(others)}
    """
    return sql, [*labelled[1], *every[1]]
