"""Reads from the database by how much sums are wrong; each function uses one statement, so it sees one moment."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from usage.models import Span
from usage.sums.histogram import added, pack
from usage.sums.sum_tables import DAYS, FAILURES, TEAM_DAY_KEYS, TEAM_DAYS, SumTable
from usage.sums.summed_names import SUMMED_CODE_SQL, SUMMED_MODEL_SQL
from usage.sums.totals_reader import next_month, starts_of
from usage.sums.totals_rollup import Group
from usage.upkeep.differing_sums import (
    DIFFERS,
    HAS_TEAM,
    HOUR,
    IS_CALL,
    TEAM_DAY_GROUPS,
    adding_cursor,
    differing_groups,
    first_row,
)


def stored_groups(table: SumTable, condition: str, *values: datetime | list[datetime]) -> list[Group]:
    """Reads the rows of a table of sums that fulfil an SQL condition; returns them as dictionaries.

    `values` are the parameters of the condition.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {condition}", list(values))
        return [dict(zip(table.columns, row, strict=True)) for row in cursor]


def sums_of_days(table: SumTable, month: datetime) -> list[Group]:
    """Computes the rows that `table` should have for a month, by adding up its rows for the days of the month.

    `month` is the beginning of the month (UTC).
    """
    keys = [{"span": "'month'", "start": "date_trunc('month', start, 'UTC')"}.get(key, key) for key in table.keys]
    # PostgreSQL has no `max` for UUIDs; their texts have the same order.
    outer = [f"max({name}::text)::uuid" if name == "sample_id" else f"max({name})" for name in table.maxima]
    lists = [f"array_agg({name}::text) FILTER (WHERE {name} <> '{{}}')" for name in (*table.histograms, *table.packed)]
    columns = (
        *keys,
        *(f"sum({name})" for name in table.counters),
        *outer,
        *lists,
        *(f"min({name})" for name in table.minima),
    )
    query = f"""
        SELECT {", ".join(columns)} FROM {table.name} WHERE span = 'day' AND start = ANY(%s)
        GROUP BY {", ".join(str(number + 1) for number in range(len(keys)))}
    """
    with adding_cursor() as cursor:
        cursor.execute(query, [list(starts_of(Span.DAY, month, next_month(month)))])
        groups = [dict(zip(table.columns, row, strict=True)) for row in cursor]
    for group in groups:
        group |= {name: _sum_of_histograms(group[name]) for name in table.histograms}
        group |= {name: _sum_of_packed(group[name]) for name in table.packed}
    return groups


def missing_days(since: datetime | None, end: datetime | None = None) -> list[Group]:
    """Compares each key's sums by day with its sums by hour; returns the days and keys whose sums by day are wrong.

    Each is a dictionary with the amounts to add to these sums. `since` is the beginning of the first compared day
    (UTC), and `end` the end of the last one; None means no limit.
    """
    counters = ", ".join(f"sum({name}) AS {name}" for name in DAYS.counters)
    limits = "{0} >= COALESCE(%s, '-infinity'::{1}) AND {0} < COALESCE(%s, 'infinity'::{1})"
    query = f"""
        WITH a AS (
            SELECT (hour AT TIME ZONE 'UTC')::date AS day, key_name, {counters} FROM usage_usagehour
            WHERE {limits.format("hour", "timestamptz")} GROUP BY 1, 2
        ), b AS (SELECT * FROM usage_usageday WHERE {limits.format("day", "date")})
        SELECT day, key_name, {_differences(DAYS)} FROM a FULL JOIN b USING (day, key_name)
        WHERE {_any_differs(DAYS)}
    """
    return _read(DAYS, query, [since, end, *(limit and limit.astimezone(UTC).date() for limit in (since, end))])


def missing_team_days(since: datetime | None) -> list[Group]:
    """Compares the sums by day of each team with the rows of calls; returns the days and teams whose sums are wrong.

    Each is a dictionary with the amounts to add to these sums. Only days from `since` on are compared; None compares
    all.
    """
    keys = ", ".join(f"COALESCE(a.{key}, b.{key})" for key in TEAM_DAY_KEYS)
    wanted = f"{keys}, {_differences(TEAM_DAYS)}"
    counters = tuple(name for name in TEAM_DAYS.counters if name not in ("calls", "unpriced_calls"))
    found = differing_groups(TEAM_DAYS.name, TEAM_DAY_KEYS, TEAM_DAY_GROUPS, counters, since, wanted, None, HAS_TEAM)
    return [dict(zip(TEAM_DAYS.columns, row, strict=True)) for row in sorted(found)]


def missing_failures(since: datetime | None) -> list[Group]:
    """Compares the counts of failed calls by hour and day with the rows of calls; returns the groups with wrong counts.

    Each has the number of calls to add to its count, the times of its first and last call, and the id of one call as an
    example. Only counts from `since` on are compared; None compares all.
    """
    keys = ", ".join(FAILURES.keys)
    query = f"""
        WITH a AS (
            SELECT span, start, outcome, COALESCE(status, 0) AS status, {SUMMED_CODE_SQL} AS error_code,
                   {SUMMED_MODEL_SQL} AS model, route, key_name, count(*) AS calls, max(started_at) AS last_at,
                   max(request_id::text)::uuid AS sample_id, min(started_at) AS first_at
            FROM usage_request, LATERAL (
                VALUES ('hour', {HOUR}), ('day', date_trunc('day', started_at, 'UTC'))
            ) AS spans (span, start)
            WHERE request_id >= %s AND outcome <> 'success' AND {IS_CALL} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ), b AS (SELECT * FROM usage_errortotal WHERE span <> 'month')
        SELECT {keys}, {_differences(FAILURES)}, COALESCE(a.last_at, b.last_at), COALESCE(a.sample_id, b.sample_id),
               COALESCE(a.first_at, b.first_at)
        FROM a FULL JOIN b USING ({keys})
        WHERE start >= COALESCE(%s, '-infinity'::timestamptz) AND ({_any_differs(FAILURES)})
    """
    return _read(FAILURES, query, [first_row(since), since])


def _read(table: SumTable, query: str, values: list[Any]) -> list[Group]:
    """Runs a query that reads groups of a table of sums; returns them as dictionaries, sorted by the table's keys.

    Writers of calls lock rows in the same order, so there are no deadlocks with them.
    """
    with adding_cursor() as cursor:
        cursor.execute(query, values)
        # The database may sort texts by the rules of a language. A deadlock with a writer would follow.
        rows = sorted(cursor, key=lambda row: row[: len(table.keys)])
    return [dict(zip(table.columns, row, strict=True)) for row in rows]


def _differences(table: SumTable) -> str:
    """Returns SQL expressions, joined by commas, for the amounts that must be added to the counters of `table`.

    An amount is the right value (in the query's table `a`) minus the stored one (in `b`); a missing value counts as 0.
    """
    return ", ".join(f"COALESCE(a.{name}, 0) - COALESCE(b.{name}, 0)" for name in table.counters)


def _any_differs(table: SumTable) -> str:
    return " OR ".join(map(DIFFERS.format, table.counters))


def _sum_of_histograms(texts: list[str] | None) -> list[int]:
    """Adds up histograms, each given as the text of a PostgreSQL array; returns one histogram.

    The result is empty if `texts` is None or empty.
    """
    found: list[int] = []
    for text in texts or ():
        found = added(found, _numbers(text))
    return found


def _sum_of_packed(texts: list[str] | None) -> list[int]:
    """Adds up packed histograms, each given as the text of a PostgreSQL array; returns one packed histogram."""
    counts = defaultdict[int, int](int)
    for text in texts or ():
        first, *histogram = _numbers(text)
        for number, count in enumerate(histogram, first):
            counts[number] += count
    return pack(counts)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.strip("{}").split(",")]
