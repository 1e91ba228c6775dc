"""Sends the last SQL statements of a transaction to PostgreSQL in one round trip, together with its COMMIT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import connection
from django.db.backends.utils import CursorWrapper

# Makes the commit of this transaction wait until it is on the disk, even if PostgreSQL's administrator has set that
# commits do not wait. It must outlast a crash of PostgreSQL: the journal's records are deleted after it, or calls are
# admitted because of it. A stricter setting, for replicas, stays.
WAIT_FOR_DISK = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)


class LastStatements:
    """The last SQL statements of a transaction, collected until `run` executes them, with COMMIT, in one round trip.

    Use this in a transaction for whose locks other processes wait: with a single round trip, they wait for a shorter
    time.
    """

    def __init__(self, cursor: CursorWrapper) -> None:
        self._cursor = cursor
        self._texts: list[str] = []

    def execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> None:
        """Adds a statement, with the values of its parameters, to those that `run` will execute.

        The result of the statement cannot be read.

        Raises:
            django.db.Error: a value cannot be written as SQL.
        """
        with connection.wrap_database_errors:
            self._texts.append(self._cursor.mogrify(sql, values))

    def run(self) -> None:
        """Executes the collected statements, and commits the transaction, in one round trip to PostgreSQL.

        The commit is on PostgreSQL's disk when this returns, also with `synchronous_commit = off`. In a nested `atomic`
        block, nothing is committed here: the outermost block commits. Nothing may be executed in the transaction after
        this.

        Raises:
            django.db.Error: the database has failed or has refused a statement, and nothing was committed.
        """
        # Django then finds no open transaction at the end of its block, and so has nothing to commit.
        is_nested = bool(connection.savepoint_ids)
        if texts := [*self._texts, WAIT_FOR_DISK, *([] if is_nested else ["COMMIT"])]:
            self._cursor.execute(";".join(texts))
