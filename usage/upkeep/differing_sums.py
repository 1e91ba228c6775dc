"""Compares the sums of hours and days with the rows of calls, and finds the groups that differ.

`usage.upkeep.verify` reports these groups, and `usage.upkeep.rebuild_totals` computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from usage.database.snapshot import one_snapshot
from usage.ids import first_id
from usage.sums.histogram import ENDS
from usage.sums.sum_tables import COST_PARTS, HOUR_KEYS, NEEDS_PRICE_SQL, POLL_SUMS, HistogramName, histograms_sql
from usage.sums.summed_names import SUMMED_MODEL_SQL

HOUR = "date_trunc('hour', started_at, 'UTC')"
DAY = "(started_at AT TIME ZONE 'UTC')::date"
HOUR_GROUPS = f"{HOUR} AS hour, key_name, {SUMMED_MODEL_SQL} AS model, route, outcome"
DAY_GROUPS = f"{DAY} AS day, key_name"
TEAM_DAY_GROUPS, HAS_TEAM = f"{DAY} AS day, team", "team <> ''"
# `a` is added up from the rows, `b` is the table of sums. A group that is missing on one side counts as zeros.
DIFFERS = "COALESCE(a.{0}, 0) <> COALESCE(b.{0}, 0)"
# A sum of doubles depends on the order in which they are added, so two such sums may differ a little.
DOUBLES = {"audio_seconds", "duration_ms"}
DIFFERS_CLEARLY = "abs(COALESCE(a.{0}, 0) - COALESCE(b.{0}, 0)) > 1e-6 * greatest(1, abs(COALESCE(a.{0}, 0)))"
IS_CALL = "NOT by_gateway"
LOCK_WRITERS = "LOCK TABLE usage_usagehour IN SHARE ROW EXCLUSIVE MODE"  # of calls' rows (`without_writers`)
LOCK_AS_WRITER = "LOCK TABLE usage_usagehour IN ROW EXCLUSIVE MODE"  # as writers do when they add to the sums
LEEWAY = timedelta(minutes=5)
# PostgreSQL cannot know how many groups there are, and would sort the rows on the disk instead of adding them up in
# memory.
ADDS_IN_MEMORY = "SET LOCAL work_mem = '64MB'; SET LOCAL enable_sort = off"


@contextmanager
def adding_cursor() -> Iterator[CursorWrapper]:
    """Context manager that yields a cursor, in a transaction in which `GROUP BY` may use much memory."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ADDS_IN_MEMORY)
        yield cursor


@contextmanager
def without_writers() -> Iterator[CursorWrapper]:
    """Context manager that runs its block in a transaction while nobody writes rows of calls; yields a cursor.

    Writers wait until the block ends. Since they write a call's row and its sums by hour in one transaction, the rows
    and these sums agree in the block.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK_WRITERS)
        yield cursor


@contextmanager
def one_snapshot_of_rows() -> Iterator[None]:
    """Context manager in whose block all queries see the same data, and no partition of calls' rows is dropped.

    So a query finds all rows since the time that `comparable_since` returns in the block. Meanwhile, a `ledger prune`
    that must drop or create a partition fails; it is tried again later.
    """
    with one_snapshot():
        with connection.cursor() as cursor:
            # The snapshot begins with the first query. This is none, so the snapshot is later than the lock.
            cursor.execute("LOCK TABLE usage_request IN ACCESS SHARE MODE")
        yield


def differing_groups(
    table: str,
    keys: tuple[str, ...],
    groups: str,
    sums: tuple[str, ...],
    since: datetime | None,
    wanted: str,
    most: int | None,
    summed: str = "true",
) -> list[tuple[Any, ...]]:
    """Compares a table of sums with the rows of calls; returns the groups of calls whose sums differ.

    * `table`: the table of sums, which has a row for each group.
    * `keys`: the columns that identify a group, such as the hour and the key. The first one is a time.
    * `groups`: the SQL that computes these columns from a call's row.
    * `sums`: the columns to compare. Numbers of calls, and of calls without a price, are always compared.
    * `since`: the time from which on groups are compared; None compares all.
    * `wanted`: the SQL expressions to return for each group, in which `a` has the right sums, and `b` the stored ones.
    * `most`: how many groups are returned at most; None returns all.
    * `summed`: the SQL condition on the calls that the table counts.
    """
    counters = ", ".join(f"COALESCE(sum({summed_value(name)}), 0) AS {name}" for name in sums)
    same = " AND ".join(f"a.{key} = b.{key}" for key in keys)
    differs = " OR ".join(
        (DIFFERS_CLEARLY if name in DOUBLES else DIFFERS).format(name) for name in ("calls", "unpriced_calls", *sums)
    )
    numbers = ", ".join(str(number + 1) for number in range(len(keys)))
    query = f"""
        WITH a AS (
            SELECT {groups}, count(*) FILTER (WHERE {IS_CALL}) AS calls,
                   count(*) FILTER (WHERE {NEEDS_PRICE_SQL}) AS unpriced_calls, {counters}
            FROM usage_request WHERE request_id >= %s AND {summed} GROUP BY {numbers}
        ), b AS (SELECT * FROM {table} WHERE {keys[0]} >= COALESCE(%s, '-infinity'::timestamptz))
        SELECT {wanted} FROM a FULL JOIN b ON {same}
        WHERE COALESCE(a.{keys[0]}, b.{keys[0]}) >= COALESCE(%s, '-infinity'::timestamptz)
          AND ({differs})
        LIMIT %s
    """
    with adding_cursor() as cursor:
        cursor.execute(query, [first_row(since), since, since, most])
        return list(cursor.fetchall())


def first_row(since: datetime | None) -> UUID:
    """Returns the lowest request id that a call can have if it began at `since` or later.

    If `since` is None, returns the lowest id that there can be.
    """
    # A call's id and start are read from the clock one after the other.
    return first_id(since - LEEWAY) if since else UUID(int=0)


def summed_value(name: str) -> str:
    """Returns the SQL expression for the amount that one call's row adds to the sum `name`; NULL if it adds nothing."""
    if kind := COST_PARTS.get(name):
        return f"CASE WHEN cost_kind = '{kind}' THEN cost END"
    return name if name in POLL_SUMS else f"CASE WHEN {IS_CALL} THEN {name} END"


def differing_histograms(
    name: HistogramName, since: datetime | None, wanted: str, most: int | None
) -> list[tuple[Any, ...]]:
    """Returns the groups of calls whose histograms in the table `UsageHour` differ from the rows of calls.

    A group has the calls of one hour with the same key, model, route and outcome.

    * `name`: the latency that the histograms count, such as `duration_ms`.
    * `since`: the time from which on groups are compared; None compares all.
    * `wanted`: the SQL expressions to return for each group, such as its hour.
    * `most`: how many groups are returned at most; None returns all.
    """
    keys = ", ".join(HOUR_KEYS)
    numbers = ", ".join(str(number + 1) for number in range(len(HOUR_KEYS) + 1))
    query = f"""
        WITH a AS (
            SELECT {HOUR_GROUPS}, width_bucket({name}, %s::float8[]) AS bucket, count(*) AS count
            FROM usage_request WHERE request_id >= %s AND {name} IS NOT NULL AND {IS_CALL} GROUP BY {numbers}
        ), b AS (
            SELECT {keys}, first + number - 1 AS bucket, sum(count) AS count
            FROM usage_usagehour, LATERAL {histograms_sql(name)},
                 unnest(histogram) WITH ORDINALITY AS counts(count, number)
            WHERE count <> 0 AND hour >= COALESCE(%s, '-infinity'::timestamptz) GROUP BY {numbers}
            HAVING sum(count) <> 0
        )
        SELECT DISTINCT {wanted} FROM a FULL JOIN b USING ({keys}, bucket)
        WHERE hour >= COALESCE(%s, '-infinity'::timestamptz) AND a.count IS DISTINCT FROM b.count
        LIMIT %s
    """
    with adding_cursor() as cursor:
        cursor.execute(query, [ENDS, first_row(since), since, since, most])
        return list(cursor.fetchall())
