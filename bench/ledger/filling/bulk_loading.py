"""Loads millions of rows into PostgreSQL quickly: without safety from crashes, and into tables without indexes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from django.db import connections
from django.db.backends.utils import CursorWrapper

from chatproxy.postgres.bundled import BundledPostgres

# If the machine crashes while these hold, the ledger is lost, and is filled again. `minimal` spares the log of rows
# that go into a table which the same transaction has emptied.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "512MB",
    "work_mem": "256MB",
}
FIND_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), conname, pg_get_constraintdef(pg_constraint.oid)
    FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid AND conrelid = indrelid
    WHERE indrelid = %s::regclass ORDER BY 1
"""


@contextmanager
def without_safety(postgres: BundledPostgres) -> Iterator[None]:
    """Context manager that gives a running PostgreSQL the settings `SETTINGS` meanwhile; restarts it before and after.

    At the end everything is on the disk. If the block is left by an error, the settings stay (`refuse_unfinished`).
    """
    _restart(postgres, [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in SETTINGS.items()])
    yield
    _restart(postgres, ["ALTER SYSTEM RESET ALL"])


def refuse_unfinished(url: str) -> None:
    """Raises SystemExit if the filling of the database at `url` was broken off."""
    with psycopg.connect(url) as database:
        [level] = database.execute("SHOW wal_level").fetchone() or ("",)
    if level == SETTINGS["wal_level"]:
        raise SystemExit("the filling of this ledger was broken off; delete its directory, and fill another one")


def take_indexes_off(cursor: CursorWrapper, table: str) -> list[str]:
    """Drops all indexes of a table and its primary key; returns the SQL statements that make them again."""
    cursor.execute(FIND_INDEXES, [table])
    found = cursor.fetchall()
    for index, _, constraint, _ in found:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}")
    return [
        f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {key}" if constraint else definition
        for _, definition, constraint, key in found
    ]


def close_connections() -> None:
    """Closes all connections of this process to the database, as before a restart of it, or before a fork."""
    connections.close_all()
    cast(Any, connections["default"]).close_pool()


def _restart(postgres: BundledPostgres, statements: Iterable[str]) -> None:
    """Executes SQL statements that change PostgreSQL's settings, and restarts PostgreSQL so that they hold."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement.encode())
    postgres.stop()
    os.sync()  # PostgreSQL itself has not, if it ran without `fsync`
    postgres.start()
