"""Reads sums of calls by label, in any groups, for `GET /usage` and for pages about money.

Calls can be grouped by any of `COLUMNS`, and by one label (end users, or the values of a tag) in addition. These are
read from the sums by label, by whole months if the range has such. Sums by two labels together are read by
`combined_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any, NamedTuple

from django.db import connection

from usage.database.snapshot import one_snapshot
from usage.sums.labels.combined_reader import combined_sums
from usage.sums.labels.completeness import first_lacking, has_unnamed
from usage.sums.labels.label_groups import (
    GroupValue,
    Only,
    Query,
    column_of,
    columns_of,
    grouping,
    is_label,
    labels_among,
)
from usage.sums.labels.label_tables import COST_LATER, END_USER, OTHERS, SUMS, added_up, typed
from usage.sums.labels.span_ranges import SpanRange, ranges_to_read
from usage.sums.labels.sum_rows import has_totals, named_as_in_month, rows_of_periods, rows_of_totals
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
    periods = ranges_to_read(first, end, by_day="day" in groups, has_label=bool(labels))
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
    periods = ranges_to_read(first, end, by_day=False, has_label=False)
    lacking = first_lacking(periods)
    if lacking and any(part.is_subtracted for part in periods):  # perhaps only other days of a month lack calls
        return first_lacking([SpanRange("day", first, end)])
    return lacking


def grouped_sums(
    first: date, end: date, groups: Sequence[str], only: Only, sums: Sequence[str] = SUMS, *, is_complete: bool
) -> Query:
    """Returns the SQL query that reads the sums of the calls of some whole days, with one row for each group.

    The arguments and the columns are those of `rows_of_sums`. If `groups` has a label, the calls without it have rows
    as well, with null as its value.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    labels = labels_among(groups, only)
    rows = rows_of_sums(first, end, groups, only, sums, is_complete=is_complete)
    if len(labels) > 1:
        return rows
    if not labels or labels[0] in only:
        return added_rows(rows, groups, sums)
    others = [name for name in groups if not is_label(name)]
    return _with_rest(rows, rows_of_sums(first, end, others, only, sums, is_complete=is_complete), groups, sums)


def rows_of_sums(
    first: date,
    end: date,
    groups: Sequence[str],
    only: Only,
    sums: Sequence[str] = SUMS,
    *,
    is_complete: bool,
    day: str = "",
    later: date | None = None,
) -> Query:
    """Returns the SQL query for rows that add up to the sums of the calls of some whole days, by group.

    * `groups` and `only`: names and filters as for `read_label_report`. Calls without a label in them are left out,
      but if there are two labels, null stands for a label that a call does not have.
    * `sums`: the names in `SUMS` to read: fewer take less time.
    * `is_complete`: whether the sums by label have all calls of these days (`lacks_since` returned None). Then the sums
      of all calls may be read from the totals of days, which is quicker.
    * `day`: for a query that is part of another one, which runs day by day: the SQL of the day. Only that day is read.
      It must not be before `first`; a day from `end` on has no calls. Groups and filters may then have at most one
      label, and `groups` not the day.
    * `later`: a day from which on dollars also count for a last column, `COST_LATER`.

    The columns `by_0`, `by_1` and so on have the values of the groups; the others have a part of a sum, or null.
    Several rows may have the same group.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days.
    """
    labels = labels_among(groups, only)
    if len(labels) > 1:
        return combined_sums(first, end, groups, only, sums, later)
    label = labels[0] if labels else ""
    by_day = bool(day) or "day" in groups
    of_totals = is_complete and not label and has_totals((*groups, "day") if by_day else groups, only)
    periods = [] if of_totals else ranges_to_read(first, end, by_day=by_day, has_label=bool(label))

    def read(start: date, periods: Sequence[SpanRange], sums: Sequence[str]) -> Query:
        if of_totals:
            return rows_of_totals(start, end, groups, only, sums, day=day)
        return rows_of_periods(periods, label, groups, only, sums, day=day)

    sql, values = read(first, periods, sums)
    columns = [column_of(name) for name in groups]
    names = [f"{column} AS by_{number}" for number, column in enumerate(columns)]
    if later is None:
        return f"SELECT {', '.join((*names, *sums))} FROM ({sql}) AS rows", values
    more = read(later, [SpanRange("day", later, end)], ("cost",))
    if label and any(part.span == "month" and part.first <= later < part.end for part in periods):
        more = named_as_in_month(more, label, only.get(label), later, columns)
    sql = f"""
        SELECT {", ".join((*names, *sums))}, NULL::numeric AS {COST_LATER} FROM ({sql}) AS rows
        UNION ALL SELECT {", ".join((*names, *("NULL" for _ in sums)))}, cost FROM ({more[0]}) AS later
    """
    return sql, [*values, *more[1]]


def added_rows(rows: Query, groups: Sequence[str], sums: Sequence[str]) -> Query:
    """Returns the SQL query that adds up the rows of a query made by `rows_of_sums`: one row for each group."""
    keys = columns_of(groups)
    return f"SELECT {', '.join((*keys, *added_up(sums)))} FROM ({rows[0]}) AS source{grouping(keys)}", rows[1]


def shown_value(group: str, value: GroupValue) -> str | None:
    """Returns one value of a usage report's grouping as text to show; None, for calls without the label, stays None.

    `group` is the name of the grouping, such as `end_user` or `day`. A day becomes ISO text. `OTHERS` (several values
    that have no sums of their own) becomes "(other end users)" or "(other values)".
    """
    if value == OTHERS:
        return "(other end users)" if group == END_USER else "(other values)"
    return value.isoformat() if isinstance(value, date) else value


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


def _with_rest(labelled: Query, every: Query, groups: Sequence[str], sums: Sequence[str]) -> Query:
    """Returns the SQL query that adds up all calls by `groups`, one of which is a label that some calls do not have.

    Both arguments are made by `rows_of_sums`: `labelled` for the calls with the label, by `groups`; `every` for all
    calls, by the other groups. The sums of calls without the label are the difference of the two; the label's value is
    null there.
    """
    keys = columns_of(groups)
    numbers = iter(keys)
    rest = ["NULL" if is_label(name) else next(numbers) for name in groups]
    known = [f"{key} AS {other}" for key, other in zip(keys, rest, strict=True) if other != "NULL"]
    others = keys[:-1]
    less = [f"-{name} AS {name}" for name in sums]
    sql = f"""
        WITH summed AS MATERIALIZED (
            SELECT {", ".join((*keys, *added_up(sums)))} FROM ({labelled[0]}) AS source{grouping(keys)}
        )
        SELECT {", ".join((*keys, *sums))} FROM summed
        UNION ALL
        SELECT {", ".join((*rest, *(f"sum({name}) AS {name}" for name in sums)))}
        FROM (
            SELECT {", ".join((*others, *sums))} FROM ({every[0]}) AS every
            UNION ALL SELECT {", ".join((*known, *less))} FROM summed
        ) AS source{grouping(others)}
    """
    return sql, [*labelled[1], *every[1]]
