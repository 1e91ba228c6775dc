"""PostgreSQL's time limits: lifted for long work, and short for a wait for a table's lock, behind which others wait.

An administrator may have set `statement_timeout` for the gateway's role, and calls and pages do well with it. A check
of all rows, or an index of millions of calls, does not. The limits are lifted by `SET LOCAL`, for one transaction at a
time, so a connection that a pooler lends to somebody else does not keep that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import psycopg
from django.db import connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.pq import TransactionStatus

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
# Less than the second after which a call whose budget cannot be read is refused (`usage.money.reservations`).
LOCK_TIMEOUT_MS = 500
VACUUM_ENDS_WITHIN_MS = 200  # after it was told to
DEADLOCK_TIMEOUT = "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"
TRANSACTION_LIMIT, FIRST_VERSION = "transaction_timeout", 170000  # an error in earlier versions of PostgreSQL


def limits_of(database: psycopg.Connection) -> tuple[str, ...]:
    """Returns the names of PostgreSQL's time limits that the connected server has, such as `statement_timeout`.

    They limit the time of statements, of locks and of transactions. Only PostgreSQL 17 or newer has
    `transaction_timeout`.
    """
    return (*LIMITS, TRANSACTION_LIMIT) if database.info.server_version >= FIRST_VERSION else LIMITS


def lift_limits(database: psycopg.Connection) -> None:
    """Switches off PostgreSQL's time limits, such as `statement_timeout`, for the rest of the open transaction.

    `database` is a psycopg connection. If no transaction is open, one is begun; but a connection in autocommit mode
    begins none, so there the call has an effect only inside a transaction.

    Raises:
        psycopg.Error: the statement fails, for example because the database does not answer.
    """
    # No SELECT, after which a transaction could no longer choose its snapshot.
    database.execute("; ".join(f"SET LOCAL {name} = 0" for name in limits_of(database)).encode())


def limit_lock_waits(database: psycopg.Connection, *, outlast_vacuum: bool = False) -> None:
    """Limits each wait for the lock of a table or row, for the rest of the open transaction, to `LOCK_TIMEOUT_MS`.

    PostgreSQL ends an automatic vacuum of a table that a statement wants to alter or drop, but only after the statement
    has waited for `deadlock_timeout`: normally a second. With `outlast_vacuum`, the limit is longer than that. Use it
    for few of the attempts, since all later statements about the table wait as well.

    Raises:
        psycopg.Error: the statement fails, for example because the database does not answer.
    """
    limit = LOCK_TIMEOUT_MS
    if outlast_vacuum:
        [(deadlock_timeout,)] = database.execute(DEADLOCK_TIMEOUT).fetchall()
        limit = max(limit, deadlock_timeout + VACUUM_ENDS_WITHIN_MS)
    database.execute(f"SET LOCAL lock_timeout = {limit}".encode())


@contextmanager
def without_time_limits() -> Iterator[None]:
    """Context manager: inside its block, PostgreSQL's time limits are off for the queries of this thread.

    * The limits are not switched off if the open transaction has executed a statement before the block began.
    * Each statement outside of a transaction is run in a transaction of its own. So the block cannot execute statements
      such as CREATE INDEX CONCURRENTLY.
    """
    with connection.execute_wrapper(_lift_and_execute):
        yield


def _lift_and_execute(
    execute: Callable[..., object], sql: str, params: object, many: bool, context: Mapping[str, object]
) -> object:
    """Executes an SQL statement without PostgreSQL's time limits, and returns its result.

    This is a wrapper for Django's `connection.execute_wrapper`. It switches off the limits before the first statement
    of a transaction; to a statement outside of a transaction, it gives a transaction of its own.
    """
    database = cast(DatabaseWrapper, context["connection"])
    if not database.in_atomic_block:
        with transaction.atomic(using=database.alias):
            return _lift_and_execute(execute, sql, params, many, context)
    if database.connection.info.transaction_status == TransactionStatus.IDLE:
        with database.wrap_database_errors:
            lift_limits(database.connection)
    return execute(sql, params, many, context)
