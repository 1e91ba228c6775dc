"""Reads and changes the partitions of a table that is partitioned by ranges of UUIDv7, while others use the table.

A UUIDv7 begins with its time, so a range of ids is a span of time. Rows whose time is in no partition are in the
default partition, whose name ends in `_default`.

A change waits only a short time for a lock, because later statements wait behind it, and is tried again after a pause.
It fails if a transaction, such as a dump, reads the table for a long time. The last try ends an automatic vacuum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from usage.database.time_limits import limit_lock_waits
from usage.ids import first_id, time_of

TRIES, PAUSE_SECONDS = 5, 1.0
MOST_COUNTED = 10_000  # rows of a table; a larger number is estimated
CHANGING = 0x70617274  # the number of an advisory lock: one process at a time makes partitions

READ = """
    SELECT relname, substring(bound FROM 'FROM [(]''([0-9a-f-]{36})''[)]')::uuid,
           substring(bound FROM 'TO [(]''([0-9a-f-]{36})''[)]')::uuid
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, pg_class.oid) AS bound
    WHERE inhparent = to_regclass(%s) AND bound <> 'DEFAULT' ORDER BY 2 NULLS FIRST
"""

# A table and all of its partitions that have rows, as far as none of them has been vacuumed or analysed; each with its
# first column. The number of rows is -1 then, in PostgreSQL 13 0.
NEVER_ANALYSED = """
    SELECT pg_class.oid::regclass::text, quote_ident(attname)
    FROM (SELECT %(table)s::regclass AS oid UNION SELECT relid FROM pg_partition_tree(%(table)s)) AS tree
    JOIN pg_class USING (oid) JOIN pg_attribute ON attrelid = pg_class.oid AND attnum = 1
    WHERE relkind = 'r' AND reltuples <= 0
"""

T = TypeVar("T")


class Partition(NamedTuple):
    """A partition of a table, with the rows whose ids were made from `start` until just before `end`.

    If `start` is None, the partition has all rows before `end`.
    """

    name: str
    start: datetime | None
    end: datetime

    def covers(self, moment: datetime) -> bool:
        """Returns whether rows whose ids were made at the time `moment` belong to this partition."""
        return (self.start is None or self.start <= moment) and moment < self.end


@dataclass(frozen=True)
class RowCount:
    """A number of rows, either counted or estimated by PostgreSQL."""

    rows: int = 0
    is_estimate: bool = False

    def __add__(self, other: RowCount) -> RowCount:
        return RowCount(self.rows + other.rows, self.is_estimate or other.is_estimate)


def partitions(table: str) -> list[Partition]:
    """Returns the partitions of a table, the oldest first, without the default partition.

    Returns an empty list if the table is not partitioned.
    """
    with connection.cursor() as cursor:
        cursor.execute(READ, [table])
        rows: list[tuple[str, UUID | None, UUID]] = cursor.fetchall()
    return [Partition(name, time_of(start) if start else None, time_of(end)) for name, start, end in rows]


def has_rows(table: str, end: UUID | None = None) -> bool:
    """Returns whether `table`, a table or a single partition, has any row; with `end`, any with an id below it."""
    condition, values = (" WHERE request_id < %s", [end]) if end else ("", [])
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table}{condition})", values)
        [(found,)] = cursor.fetchall()
    return bool(found)


def count_rows(cursor: CursorWrapper, table: str) -> RowCount:
    """Returns the number of rows of `table`, a table or a single partition; an estimate above `MOST_COUNTED`.

    The estimate is that of PostgreSQL's query planner, since counting millions of rows takes long. Parts of the table
    that were never analysed are analysed first: without that, the planner's guess would be bad.
    """
    cursor.execute(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT {MOST_COUNTED + 1}) AS counted")
    [(rows,)] = cursor.fetchall()
    if rows <= MOST_COUNTED:
        return RowCount(rows)
    cursor.execute(NEVER_ANALYSED, {"table": table})
    for name, column in cursor.fetchall():
        cursor.execute(f"ANALYZE {name} ({column})")
    cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT FROM {table}")
    [([explained],)] = cursor.fetchall()
    return RowCount(max(rows, int(explained["Plan"]["Plan Rows"])), is_estimate=True)


def make_partition(table: str, partition: Partition) -> None:
    """Creates a partition of a table, and moves the rows that belong to it from the default partition to it.

    Does nothing if the table has a partition for the time `partition.start` already; this time must not be None.

    Raises:
        django.db.OperationalError: another transaction kept the table locked during all attempts (`is_locked`).
    """
    start = partition.start
    assert start is not None  # noqa: S101  (only a migration makes one without)
    bounds = first_id(start), first_id(partition.end)

    def make(cursor: CursorWrapper) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHANGING])
        if any(other.covers(start) for other in partitions(table)):
            return
        cursor.execute(f"CREATE TABLE {partition.name} (LIKE {table} INCLUDING ALL)")
        # A writer that had already looked up the partitions would put its row into the default one, which then refuses
        # the row. So writers wait before that look: for the table itself.
        cursor.execute(f"LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE request_id >= %s AND request_id < %s RETURNING *)"
            f" INSERT INTO {partition.name} SELECT * FROM moved",
            bounds,
        )
        # To attach a table locks the default partition only, and not the others, as to create a partition would.
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {partition.name} FOR VALUES FROM (%s) TO (%s)", bounds)

    change_tables(make)


def drop_partitions(cursor: CursorWrapper, names: Iterable[str]) -> None:
    """Deletes partitions with all their rows, through the cursor that `change_tables` passes to its function."""
    for name in names:
        cursor.execute(f"DROP TABLE {name}")


def change_tables(change: Callable[[CursorWrapper], T]) -> T:
    """Calls `change` with a cursor, in a transaction, and returns its result; repeats this if a lock is in the way.

    After a deadlock, or a long wait for a lock (`limit_lock_waits`), the transaction is rolled back, and `change` is
    called again after a pause: up to `TRIES` times in all. Any other error is raised at once.

    Raises:
        django.db.OperationalError: another transaction was in the way at each attempt (`is_locked`), or the database
            cannot be reached.
    """
    for number in range(1, TRIES + 1):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                with connection.wrap_database_errors:
                    limit_lock_waits(connection.connection, outlast_vacuum=number == TRIES)
                return change(cursor)
        except OperationalError as error:
            if number == TRIES or not is_locked(error):
                raise
            time.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")


def is_locked(error: BaseException) -> bool:
    """Returns whether an error of Django was caused by another transaction in the way: a lock timeout or a deadlock."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected)
