"""Helpers for tests of the monthly partitions of the ledger's tables, and for ledgers in other databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection, connections
from psycopg.conninfo import conninfo_to_dict

from usage.database.partitions import make_partition, partitions
from usage.upkeep.months import TABLES, make_months, month_partition


def names(table: str) -> set[str]:
    """Returns the names of a table's partitions, without the default one."""
    return {partition.name for partition in partitions(table)}


def drop(*tables: str) -> None:
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DROP TABLE {table}")


@contextmanager
def months(*starts: datetime) -> Iterator[None]:
    """Gives each partitioned table (`TABLES`) exactly these monthly partitions until the block ends.

    The default partition stays. At the end the usual months are made again.
    """
    drop(*(name for table in TABLES for name in names(table)))
    for table in TABLES:
        for start in starts:
            make_partition(table, month_partition(table, start))
    try:
        yield
    finally:
        drop(*(name for table in TABLES for name in names(table)))
        make_months()


def places(table: str = "usage_request") -> dict[str, str]:
    """Returns the partition of each row of a table, by request id."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT request_id::text, tableoid::regclass::text FROM {table}")  # noqa: S608  (our own name)
        return dict(cursor.fetchall())


@contextmanager
def ledger_at(url: str) -> Iterator[Any]:
    """Lets this thread's code read and write the ledger in the database at `url`; yields Django's connection to it."""
    here = connections["default"]
    there: Any = here.copy()
    there.settings_dict["NAME"] = conninfo_to_dict(url)["dbname"]
    there.settings_dict["OPTIONS"] = {
        name: value for name, value in here.settings_dict["OPTIONS"].items() if name != "pool"
    }
    connections["default"] = there
    try:
        yield there
    finally:
        there.close()
        connections["default"] = here
