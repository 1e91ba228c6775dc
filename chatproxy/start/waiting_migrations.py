"""Migrates the database while other servers, and people, go on using it.

A statement that alters a table waits until all transactions that have read the table have ended, and every later
statement about that table waits behind it. So a migration waits only a short time (`limit_lock_waits`). It is tried
again after a pause, in which the statements behind it can run. One try a minute outlasts an automatic vacuum, which may
take an hour. No migration sets a limit of its own: `manage.py migrate` waits as a start does
(`chatproxy.management.commands.migrate`). An index that is made concurrently needs no such limit
(`usage.database.concurrent_indexes`), since nothing waits behind it.

A migration and Django's record of it are one transaction here. Django itself records a migration with foreign keys in a
second transaction. If a server was killed in between, no server could start with the database afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import cast

import psycopg
from django.core.management import call_command
from django.core.management.commands import migrate as migrate_command
from django.db import connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState
from django.db.utils import OperationalError, ProgrammingError

from usage.database.pooler import is_pooled
from usage.database.time_limits import lift_limits, limit_lock_waits, limits_of

CONCURRENTLY = " CONCURRENTLY "  # of a statement that makes or drops an index beside readers and writers
PAUSE_SECONDS = 2.0
NOTICE_SECONDS = 60.0
NOTICE = "chatproxy: a migration waits for transactions that use its tables (a dump, an export?), and is tried again"
# What passes by itself: another transaction has the table, or had locked it in another order.
IN_THE_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
# Or a server that was killed while it migrated: its last transaction may still have been committed after this server
# had read which migrations are missing.
COMMITTED_MEANWHILE = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateColumn, psycopg.errors.DuplicateObject)


class OneTransactionExecutor(MigrationExecutor):
    """Django's executor of migrations that applies a migration and records it as applied in one transaction.

    A migration with `atomic = False` runs as in Django.
    """

    # A server that is killed in between leaves no applied migration unrecorded.
    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        if not migration.atomic:
            return super().apply_migration(state, migration, fake, fake_initial)
        with transaction.atomic(using=self.connection.alias):
            return super().apply_migration(state, migration, fake, fake_initial)


migrate_command.MigrationExecutor = OneTransactionExecutor  # type: ignore[attr-defined]  # no setting names it


def migrate(notice: Callable[[], object]) -> None:
    """Applies the missing migrations, and tries again while other transactions use the tables: see `apply`."""
    apply(lambda: call_command(migrate_command.Command(), interactive=False, verbosity=0), notice)


def apply(run: Callable[[], object], notice: Callable[[], object]) -> None:
    """Calls `run`, which applies migrations, until it succeeds: repeatedly while other transactions use the tables.

    `notice` is called the first time that such transactions are in the way, and then once a minute. If another server
    has just made the same tables, `run` is called once more.

    Raises:
        django.db.Error: a migration failed for another reason.
    """
    notice_at = time.monotonic()
    was_repeated = outlast_vacuum = False
    while True:
        try:
            with connection.execute_wrapper(partial(_limit_wait, outlast_vacuum=outlast_vacuum)):
                run()
        except OperationalError as error:
            if not isinstance(error.__cause__, IN_THE_WAY):
                raise
            outlast_vacuum = time.monotonic() >= notice_at
            if outlast_vacuum:
                notice()
                notice_at = time.monotonic() + NOTICE_SECONDS
            # Lets those through that waited behind the statement. The end of a lock is told to nobody.
            time.sleep(PAUSE_SECONDS)
        except ProgrammingError as error:
            if was_repeated or not isinstance(error.__cause__, COMMITTED_MEANWHILE):
                raise
            was_repeated = True
        else:
            return


def _limit_wait(
    execute: Callable[..., object],
    sql: str,
    params: object,
    many: bool,
    context: Mapping[str, object],
    *,
    outlast_vacuum: bool = False,
) -> object:
    """Executes one SQL statement of a migration, for which the database's usual time limits are too short.

    Returns the statement's result.

    * In a transaction, the limits are lifted, but a wait for a table's lock is limited (`limit_lock_waits`).
    * Outside of a transaction, the limits are lifted only for a statement that makes or drops an index concurrently.
      Through a connection pooler, they stay.
    """
    database = cast(DatabaseWrapper, context["connection"])
    has_failed = database.connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    # Before each statement, since a migration may set other limits. They hold until the transaction ends, so that a
    # connection that a pooler reuses does not keep them. After a failed statement, PostgreSQL accepts only a rollback,
    # which waits for nothing.
    if database.in_atomic_block and not has_failed:
        # A statement may take long, and so may the migration's Python between two of them.
        lift_limits(database.connection)
        limit_lock_waits(database.connection, outlast_vacuum=outlast_vacuum)
    if not database.in_atomic_block and CONCURRENTLY in str(sql) and not is_pooled(database.connection):
        with _session_without_limits(database.connection):
            return execute(sql, params, many, context)
    return execute(sql, params, many, context)


@contextmanager
def _session_without_limits(database: psycopg.Connection) -> Iterator[None]:
    """Context manager that lifts the time limits of a session; for statements that cannot run in a transaction.

    At the end, the session has its usual limits again. Do not use this with a connection pooler, which may lend the
    session to somebody else.
    """
    names = limits_of(database)  # that of transactions is one of single statements, too
    database.execute("; ".join(f"SET {name} = 0" for name in names).encode())
    try:
        yield
    finally:
        if not database.closed:
            database.execute("; ".join(f"RESET {name}" for name in names).encode())
