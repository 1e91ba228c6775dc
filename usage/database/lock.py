"""Owns the locks that let one process of all do something: migrate the database, prune the ledger.

A lock is a transaction-level advisory lock in an open transaction, on a connection outside Django's pool:

* It ends with its transaction, and so with its holder. Behind a pooler in transaction mode a session-level lock would
  stay on the pooler's connection instead, long after the process that took it.
* The transaction is READ COMMITTED and idle, so it holds no snapshot. A process that waits asks again and again instead
  of inside PostgreSQL, for the same reason: `CREATE INDEX CONCURRENTLY` waits for every snapshot that is older than it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from django.db import connection

ASK_AGAIN_SECONDS = 0.2
FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 1.0, 60.0

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# The transaction may be idle for long; a host that vanished is noticed after a minute, not after two hours.
# PostgreSQL before 17 has no `transaction_timeout`, and setting what is not there is an error.
CONFIGURE = """
SELECT set_config(wanted.name, wanted.value, true)
FROM (VALUES ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'),
             ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
     ) AS wanted (name, value)
WHERE EXISTS (SELECT FROM pg_settings WHERE pg_settings.name = wanted.name)
"""
TRY = "SELECT pg_try_advisory_xact_lock(%s)"


@contextmanager
def try_lock(number: int) -> Iterator[bool]:
    """Yields whether the lock was free; if so, it is held until the end of the block.

    Raises:
        django.db.Error: the database cannot be reached.
    """
    with _connected() as lock:
        yield _take(lock, number)


@contextmanager
def wait_for_lock(number: int, notice: Callable[[], None]) -> Iterator[None]:
    """Holds the lock until the end of the block; calls `notice` after a second of waiting, then every minute.

    Raises:
        django.db.Error: the database cannot be reached.
    """
    with _connected() as lock:
        notice_at = time.monotonic() + FIRST_NOTICE_SECONDS
        while not _take(lock, number):
            if time.monotonic() >= notice_at:
                notice()
                notice_at = time.monotonic() + NOTICE_SECONDS
            time.sleep(ASK_AGAIN_SECONDS)
        yield


@contextmanager
def _connected() -> Iterator[psycopg.Connection[Any]]:
    with connection.wrap_database_errors:
        lock = psycopg.connect(**connection.get_connection_params(), autocommit=True)
    try:
        yield lock
    finally:
        # The end of the connection alone would release the lock a moment after this block.
        with suppress(psycopg.Error):
            lock.execute("ROLLBACK")
        lock.close()


def _take(lock: psycopg.Connection[Any], number: int) -> bool:
    """Whether the lock was free. If not, the transaction is ended at once: a pooler lends its connection to others."""
    with connection.wrap_database_errors:
        lock.execute(BEGIN)
        lock.execute(CONFIGURE)
        [is_mine] = lock.execute(TRY, [number]).fetchone() or [False]
        if not is_mine:
            lock.execute("ROLLBACK")
    return bool(is_mine)
