"""Lets long work with the database run to its end, whatever time limits its role or the database itself has.

An administrator may have set `statement_timeout` for the gateway's role, and calls and pages do well with it. A check
of all rows, or an index of millions of calls, does not. The limits are lifted by `SET LOCAL`, for one transaction at a
time, so a connection that a pooler lends to somebody else does not keep that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection, transaction
from psycopg.pq import TransactionStatus

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
TRANSACTION_LIMIT, FIRST_VERSION = "transaction_timeout", 170000  # an error in earlier versions of PostgreSQL


def limits_of(database: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Returns the names of PostgreSQL's settings that limit the time of statements, of locks and of transactions.

    An example is `statement_timeout`. `transaction_timeout` is included only if the connected server has it: since
    PostgreSQL 17.
    """
    return (*LIMITS, TRANSACTION_LIMIT) if database.info.server_version >= FIRST_VERSION else LIMITS


def lift_limits(database: psycopg.Connection[Any]) -> None:
    """Sets PostgreSQL's timeouts, such as `statement_timeout`, to 0 until the end of the open transaction.

    `database` is a psycopg connection. If it has no open transaction, this begins one; but in autocommit mode, it has
    no effect then.

    Raises:
        psycopg.Error: the statement fails, for example because the database does not answer.
    """
    # No SELECT, after which a transaction could no longer choose its snapshot.
    database.execute("; ".join(f"SET LOCAL {name} = 0" for name in limits_of(database)).encode())


@contextmanager
def without_time_limits() -> Iterator[None]:
    """Context manager that lifts PostgreSQL's time limits for the queries that its block executes in this thread.

    A transaction that had executed a statement before the block keeps its limits, and limits that the block itself sets
    by `SET LOCAL` hold. A statement outside of a transaction gets a transaction of its own, so the block must not
    execute statements that cannot be in one, such as CREATE INDEX CONCURRENTLY.
    """
    with connection.execute_wrapper(_lift_and_execute):
        yield


def _lift_and_execute(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Executes an SQL statement by calling `execute`, and returns its result; given to Django's `execute_wrapper`.

    Before the first statement of a transaction, the time limits are lifted. A statement outside of a transaction gets a
    transaction of its own.
    """
    database = context["connection"]
    if not database.in_atomic_block:
        with transaction.atomic(using=database.alias):
            return _lift_and_execute(execute, sql, params, many, context)
    if database.connection.info.transaction_status == TransactionStatus.IDLE:
        with database.wrap_database_errors:
            lift_limits(database.connection)
    return execute(sql, params, many, context)
