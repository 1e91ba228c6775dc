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
    """Returns the names of the time limits that PostgreSQL has in the version to which `database` is connected."""
    return (*LIMITS, TRANSACTION_LIMIT) if database.info.server_version >= FIRST_VERSION else LIMITS


def lift_limits(database: psycopg.Connection[Any]) -> None:
    """Lifts all time limits of PostgreSQL until the end of the transaction of `database`.

    If none is open, and the connection does not commit by itself, a transaction is begun.

    Raises:
        psycopg.Error: the database does not answer.
    """
    # No SELECT, after which a transaction could no longer choose its snapshot.
    database.execute("; ".join(f"SET LOCAL {name} = 0" for name in limits_of(database)).encode())


@contextmanager
def without_time_limits() -> Iterator[None]:
    """Context manager whose transactions on this thread's connection, and single statements, have no time limit.

    A statement outside of a transaction gets a transaction of its own. Limits that the block itself sets by `SET LOCAL`
    hold. Not for statements that cannot be in a transaction, such as CREATE INDEX CONCURRENTLY.
    """
    with connection.execute_wrapper(_lift_and_execute):
        yield


def _lift_and_execute(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Runs one SQL statement; first lifts the limits, if the statement is the first of its transaction."""
    database = context["connection"]
    if not database.in_atomic_block:
        with transaction.atomic(using=database.alias):
            return _lift_and_execute(execute, sql, params, many, context)
    if database.connection.info.transaction_status == TransactionStatus.IDLE:
        with database.wrap_database_errors:
            lift_limits(database.connection)
    return execute(sql, params, many, context)
