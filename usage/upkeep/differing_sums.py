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
    """Context manager that yields a cursor in a transaction that adds up many rows by group in memory, not on disk."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ADDS_IN_MEMORY)
        yield cursor


@contextmanager
def without_writers() -> Iterator[CursorWrapper]:
    """Context manager that runs its block in a transaction while nobody writes rows of calls; yields a cursor.

    Writers wait until the block ends. They insert rows and add to the table of hours in one transaction, so all rows
    and sums that are read in the block agree.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK_WRITERS)
        yield cursor


@contextmanager
def one_snapshot_of_rows() -> Iterator[None]:
    """Context manager for a block in which all queries see the same moment, and no month of rows can be dropped.

    If a month could be dropped, a query might miss its rows, and still see the stored time `comparable_since` from
    before the drop. If `ledger prune` wants to drop or make a month meanwhile, it fails, and is tried again later.
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
    """Compares a table of sums with the rows of calls; returns at most `most` groups that differ (None: all).

    * `sums` are the compared columns, besides the numbers of calls and of calls without a price. `keys` are the columns
      that identify a group; `groups` is the SQL that computes them from a row.
    * `wanted` is the SQL of the values to return for a group. In it, `a` has the sums of the group's rows, and `b` the
      sums in the table.
    * Only groups from `since` on are compared, since older rows may have been deleted; all if it is None.
    * `summed` is the SQL condition for the rows that have sums in the table.
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
    """Returns the lowest request id that a call which began at `since` or later may have.

    If `since` is None, returns the lowest of all ids.
    """
    # A call's id and start are read from the clock one after the other.
    return first_id(since - LEEWAY) if since else UUID(int=0)


def summed_value(name: str) -> str:
    """Returns the SQL expression for the number that a call's row adds to the sum `name`; null if it adds nothing."""
    if kind := COST_PARTS.get(name):
        return f"CASE WHEN cost_kind = '{kind}' THEN cost END"
    return name if name in POLL_SUMS else f"CASE WHEN {IS_CALL} THEN {name} END"


def differing_histograms(
    name: HistogramName, since: datetime | None, wanted: str, most: int | None
) -> list[tuple[Any, ...]]:
    """Compares the histograms in the table `UsageHour` with the rows of calls; returns the groups that differ.

    `name` is the latency, such as `duration_ms`. Only groups from `since` on are compared; all if it is None. At most
    `most` are returned; all if it is None. `wanted` is the SQL of the values to return for a group.
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
