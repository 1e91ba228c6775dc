"""Reads sums of calls by model, route and outcome, for one key, each key or all keys, and for any range of hours.

Whole months and days are read from `UsageBreakdown`, and the hours at the ends of a range from `UsageHour`. Servers
with an earlier release write no breakdowns. So if the sums of `UsageBreakdown` for a month lack calls, all hours of the
month are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from django.db import connection

from usage.models import Dimension, Span
from usage.sums.sum_tables import COST_PARTS, DURATION, DURATIONS
from usage.sums.totals_reader import EXACT, ceiling, floor, next_month, pieces_of_range, starts_of

KEY = "key_name"
Value = str | datetime | list[datetime]  # of an SQL parameter
# The two columns of a histogram of durations, as `usage.sums.sum_tables.histograms_sql` adds them up.
HISTOGRAM = (DURATIONS, f"{DURATION}_histogram")
# The expressions for columns of hours that breakdowns have under another name, or lack.
OF_BREAKDOWNS = {KEY: "value", HISTOGRAM[1]: "'{}'::bigint[]"}

DOLLARS, DOUBLES = {"cost", *COST_PARTS}, {"audio_seconds", "duration_ms"}

_COMPARED = [name for name in EXACT if name != "errors"]  # breakdowns have the outcome instead
_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in _COMPARED)
# Which of some pieces of time have breakdowns of all calls: these add up to the totals of days, which all versions
# write. Its parameters are three arrays of the same length: the pieces' spans, starts and ends.
COMPLETE = f"""
    SELECT piece.first FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS piece (span, first, last),
        LATERAL (
            SELECT bool_and({" AND ".join(f"COALESCE(a.{name}, 0) = COALESCE(b.{name}, 0)" for name in _COMPARED)})
            FROM (SELECT value AS outcome, {_ADDED_UP} FROM usage_usagetotal
                  WHERE span = 'day' AND dimension = 'outcome' AND start >= first AND start < last GROUP BY 1) AS a
            FULL JOIN (SELECT outcome, {_ADDED_UP} FROM usage_usagebreakdown AS sums
                       WHERE sums.span = piece.span AND dimension = 'all' AND start >= first AND start < last
                       GROUP BY 1) AS b USING (outcome)
        ) AS compared (agree)
    WHERE agree
"""

Piece = tuple[Span, datetime, datetime]  # the span of its rows, its start and its end


class Rows(NamedTuple):
    """An SQL subquery for sums of hours, days and months that together cover a range of time, with its parameters.

    No call is in two of the rows. `sql` has the columns `start`, `key_name`, `model`, `route`, `outcome` and the
    requested ones. `values` has the parameters of `sql`.
    """

    sql: str
    values: list[Value]


def sum_sql(name: str) -> str:
    """Returns the SQL expression that adds up the column `name`; its value is 0 if there are no rows."""
    # PostgreSQL adds integers up to a decimal.
    kind = "numeric" if name in DOLLARS else "float8" if name in DOUBLES else "bigint"
    return f"COALESCE(sum({name}), 0)::{kind}"


def rows_of_range(
    start: datetime, end: datetime, columns: Iterable[str], only: Mapping[str, str], *, coarsest: Span, by_key: bool
) -> Rows:
    """Returns an SQL query for sums of hours, days and months that together count each call of a range of time once.

    The range from `start` until `end` is extended to whole hours.

    * `columns`: the wanted columns of `UsageHour`, such as `cost`.
    * `only`: maps columns, such as `key_name`, to the value that the rows must have.
    * `coarsest`: the longest period that a row may have: an hour, a day or a month.
    * `by_key`: whether each row must be of a single key. If it is false, and `only` has no key, a row may be of all
      keys together: then the column `key_name` means nothing.
    """
    columns = [KEY, "model", "route", "outcome", *columns]
    of_breakdowns = {name: OF_BREAKDOWNS.get(name, name) for name in (*columns, *only)}
    dimension = Dimension.KEY if by_key or KEY in only else Dimension.ALL
    queries: list[str] = []
    values: list[Value] = []
    start, end = floor(start, Span.HOUR), ceiling(end, Span.HOUR)
    for span, first, last in _pieces(start, end, coarsest):
        if span == Span.HOUR:
            query = f"SELECT hour AS start, {', '.join(columns)} FROM usage_usagehour WHERE hour >= %s AND hour < %s"
            query += "".join(f" AND {name} = %s" for name in only)
            values += [first, last, *only.values()]
        else:
            named = ", ".join(f"{of_breakdowns[name]} AS {name}" for name in columns)
            query = f"SELECT start, {named} FROM usage_usagebreakdown"
            # All starts one by one, so that one key's rows are found by the primary key, in which the key comes later.
            query += f" WHERE span = '{span}' AND dimension = '{dimension}' AND start = ANY(%s)"
            query += "".join(f" AND {of_breakdowns[name]} = %s" for name in only)
            values += [list(starts_of(span, first, last)), *only.values()]
        queries.append(query)
    return Rows(" UNION ALL ".join(queries), values)


def _pieces(start: datetime, end: datetime, coarsest: Span) -> Iterator[Piece]:
    """Divides a range of whole hours into pieces of months, days or hours for which there are sums; yields the pieces.

    A piece is a unit, a start and an end, and may have several units: three days, for example. No unit is longer than
    `coarsest`. Days and months of which the table `UsageBreakdown` lacks calls are read by the hour.
    """
    if coarsest == Span.HOUR or ceiling(start, Span.DAY) >= floor(end, Span.DAY):
        yield Span.HOUR, start, end
        return
    months = starts_of(Span.MONTH, ceiling(start, Span.MONTH), floor(end, Span.MONTH))
    pieces = list(_pieces_of_one_month(start, end, months if coarsest == Span.MONTH else ()))
    known = _with_breakdowns(pieces)
    # Pieces that follow each other are read at once.
    for span, following in groupby(pieces, lambda piece: piece[0] if piece[1] in known else Span.HOUR):
        same = list(following)
        yield span, same[0][1], same[-1][2]


def _pieces_of_one_month(start: datetime, end: datetime, whole: Iterable[datetime]) -> Iterator[Piece]:
    """Divides a range of whole hours into pieces of hours, days or one month, each within one month; yields the pieces.

    A piece is a unit (hour, day or month), a start and an end. `whole` has the starts of the months that may be pieces
    of the unit month; other months are divided into days and hours.
    """
    for span, first, last in pieces_of_range(start, end, end, whole):
        at = first
        while at < last:
            following = min(last, next_month(at))
            yield span, at, following
            at = following


def _with_breakdowns(pieces: Iterable[Piece]) -> set[datetime]:
    """Returns the starts of those pieces of time whose calls are all counted in the table `UsageBreakdown`.

    Pieces of hours are never returned, since the table has days and months only. Of days that are a whole month, only
    the month's sums are checked: they are written together with those of its days, and `ledger sum` mends the days
    first.
    """
    asked = [
        (Span.MONTH if first == floor(first, Span.MONTH) and last == next_month(first) else span, first, last)
        for span, first, last in pieces
        if span != Span.HOUR
    ]
    if not asked:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(COMPLETE, list(map(list, zip(*asked, strict=True))))
        return {first for (first,) in cursor.fetchall()}
