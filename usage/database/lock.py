"""Locks under which only one process of all hosts at a time migrates the database or prunes the ledger.

A lock is a transaction-level advisory lock in an open transaction, on a connection outside Django's pool:

* The lock ends with its transaction, and so with the process that holds it. A session-level lock could outlive the
  process, on the connection of a pooler in transaction mode.
* The transaction is READ COMMITTED and idle, so it holds no snapshot, for whose end `CREATE INDEX CONCURRENTLY` would
  wait. For the same reason, a process that waits for the lock polls instead of waiting inside PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from django.db import connection
from psycopg.rows import TupleRow

from usage.database.time_limits import lift_limits

POLL_SECONDS = 0.2
FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 1.0, 60.0

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# The transaction may be idle for long; a host that vanished is noticed after a minute, not after two hours.
CONFIGURE = """
SELECT set_config(wanted.name, wanted.value, true)
FROM (VALUES ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
     ) AS wanted (name, value)
"""
TRY = "SELECT pg_try_advisory_xact_lock(%s)"


@contextmanager
def try_lock(number: int) -> Iterator[bool]:
    """Context manager that tries to take PostgreSQL's advisory lock `number`, and yields whether the lock was taken.

    The block runs in either case. The lock is held until the block ends.

    Raises:
        django.db.Error: the database cannot be reached.
    """
    with _connected() as lock:
        yield _take(lock, number)


@contextmanager
def wait_for_lock(number: int, notice: Callable[[], None]) -> Iterator[None]:
    """Context manager that waits for PostgreSQL's advisory lock `number`, and holds the lock during the block.

    `notice` is called after a second of waiting, and then every minute.

    Raises:
        django.db.Error: the database cannot be reached.
    """
    with _connected() as lock:
        notice_at = time.monotonic() + FIRST_NOTICE_SECONDS
        while not _take(lock, number):
            if time.monotonic() >= notice_at:
                notice()
                notice_at = time.monotonic() + NOTICE_SECONDS
            time.sleep(POLL_SECONDS)
        yield


@contextmanager
def _connected() -> Iterator[psycopg.Connection[TupleRow]]:
    """Context manager that opens a database connection outside of Django's pool, and yields the connection.

    At the end, an open transaction of the connection is rolled back, and the connection is closed.

    Raises:
        django.db.Error: the database cannot be reached.
    """
    with connection.wrap_database_errors:
        lock = psycopg.connect(**connection.get_connection_params(), autocommit=True)
    try:
        yield lock
    finally:
        # Closing the connection would release the lock, too, but only a moment after this block.
        with suppress(psycopg.Error):
            lock.execute("ROLLBACK")
        lock.close()


def _take(lock: psycopg.Connection[TupleRow], number: int) -> bool:
    """Tries to take PostgreSQL's advisory lock `number` on the connection `lock`; returns whether that succeeded.

    A taken lock is held by a transaction without time limits, which stays open: its end releases the lock. If the lock
    is not free, no transaction stays open.

    Raises:
        django.db.Error: the database has failed.
    """
    with connection.wrap_database_errors:
        lock.execute(BEGIN)
        lift_limits(lock)
        lock.execute(CONFIGURE)
        [is_mine] = lock.execute(TRY, [number]).fetchone() or [False]
        if not is_mine:
            # A pooler can lend the connection to others only after the end of the transaction.
            lock.execute("ROLLBACK")
    return bool(is_mine)
