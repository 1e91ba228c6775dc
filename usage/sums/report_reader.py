"""Reads the numbers of `GET /usage`: the sums of calls in a range of time, in groups that the caller chooses.

The numbers are read from sums of months, days and hours, so a range begins and ends at whole hours. They are those of
one key or of all keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from usage.models import Outcome, Span
from usage.sums.breakdown_reader import KEY, Rows, rows_of_range, sum_sql
from usage.sums.ranges import TimeRange
from usage.sums.sum_tables import COST_PARTS
from usage.sums.totals_reader import ceiling, floor

# The groups by name, each with the SQL expression of a row's value.
GROUPS = {
    "key": KEY, "model": "model", "route": "route", "outcome": "outcome", "hour": "start",
    "day": "date_trunc('day', start, 'UTC')",
}  # fmt: skip
LONGEST = {"hour": Span.HOUR, "day": Span.DAY}  # the longest span of a row, by group
SUMS = (
    "calls", "unpriced_calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "audio_seconds", "web_searches", "cost",
    *COST_PARTS,
)  # fmt: skip
# The names in the report of columns that have another name there.
NAMES = {"estimated_cost": "cost_estimated", "provisional_cost": "cost_provisional"}
DOLLARS = {"cost", *NAMES.values()}
MOST_GROUPS = 10_000
SUM_SQL = {name: sum_sql(name) for name in SUMS}
SUM_SQL["errors"] = f"COALESCE(sum(calls) FILTER (WHERE outcome <> '{Outcome.SUCCESS}'), 0)::bigint"
# Groups without calls are left out. But an hour without calls may have tokens and costs: those of a background response
# whose end the gateway has learnt in that hour.
HAS_USE = "sum(calls) > 0 OR sum(input_tokens) > 0 OR sum(output_tokens) > 0 OR sum(cost) <> 0"


def read_report(
    time_range: TimeRange,
    groups: tuple[str, ...] = (),
    *,
    key: str | None = None,
    only: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Reads the sums of the calls in a range of time, in total and by group; returns the answer to `GET /usage`.

    * `groups`: names such as `key` and `day`; with these two, each group has the calls of one key on one day. At most
      `MOST_GROUPS` are returned, sorted by their values. Groups without calls or usage are left out.
    * `only`: a map from names of groups to the value that the calls must have.
    * `key`: the only key whose calls are counted; None for all keys. If `only` has another key, there are no calls.

    The range is extended to whole hours.
    """
    start, end = floor(time_range.start, Span.HOUR), ceiling(time_range.end, Span.HOUR)
    wanted = {GROUPS[name]: value for name, value in (only or {}).items()}
    is_of_others = key is not None and wanted.get(KEY, key) != key  # a key sees no calls of another one
    if key is not None:
        wanted[KEY] = key
    coarsest = next((span for name, span in LONGEST.items() if name in groups), Span.MONTH)
    rows = rows_of_range(start, start if is_of_others else end, SUMS, wanted, coarsest=coarsest, by_key="key" in groups)
    report: dict[str, object] = {"start": start.isoformat(), "end": end.isoformat()}
    if not groups:
        return {**report, "total": _plain(_read(rows, ())[0])}
    found = _read(rows, groups)
    # If all groups have been read, the total is the sum of them; reading it would take as long again.
    total = _added_up(found) if len(found) < MOST_GROUPS else _read(rows, ())[0]
    return {**report, "total": _plain(total), "group_by": list(groups), "groups": [_plain(row) for row in found]}


def _added_up(rows: list[dict[str, Any]]) -> dict[str, object]:
    return {name: sum(row[name] for row in rows) for name in SUM_SQL}


def _read(rows: Rows, groups: Sequence[str]) -> list[dict[str, Any]]:
    """Adds up rows of sums by the named groups; returns a dictionary for each group, sorted by the groups' values.

    `rows` is the query that reads the rows. At most `MOST_GROUPS` groups are returned; groups without calls or usage
    are left out. If `groups` is empty, the result is one dictionary with the sums of all rows.
    """
    query = f"SELECT {', '.join((*(GROUPS[name] for name in groups), *SUM_SQL.values()))} FROM ({rows.sql}) AS sums"
    if groups:
        numbers = ", ".join(str(number) for number in range(1, len(groups) + 1))
        query += f" GROUP BY {numbers} HAVING {HAS_USE} ORDER BY {numbers} LIMIT {MOST_GROUPS}"
    with connection.cursor() as cursor:
        cursor.execute(query, rows.values)
        return [dict(zip((*groups, *SUM_SQL), found, strict=True)) for found in cursor.fetchall()]


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """Converts a row of sums to values for JSON: dollars become numbers, times become ISO 8601 texts.

    Names of columns become those in the answer to `GET /usage`: `estimated_cost` becomes `cost_estimated`.
    """
    plain: dict[str, object] = {}
    for name, value in row.items():
        short = NAMES.get(name, name)
        if isinstance(value, datetime):
            plain[short] = value.isoformat()
        elif short in DOLLARS and isinstance(value, Decimal | int):
            plain[short] = float(value)
        else:
            plain[short] = value
    return plain
