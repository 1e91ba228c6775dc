"""Sets the method by which PostgreSQL compresses long texts.

For bodies, lz4 takes half the CPU of PostgreSQL's own method, and up to a tenth more space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from django.db import connection
from django.db.backends.utils import CursorWrapper

from usage.database.partitions import change_tables

OFFERED = "SELECT %s = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
STATEMENTS = """
    SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET COMPRESSION %%s', attrelid::regclass, attname, %s)
    FROM pg_attribute WHERE attrelid IN (SELECT relid FROM pg_partition_tree(%s)) AND attname = ANY(%s)
    AND attcompression <> %s ORDER BY attrelid
"""


def compress_by(method: Literal["lz4", "pglz"], table: str, columns: Sequence[str]) -> int:
    """Sets the compression method for columns of a table and of its partitions; returns how many columns were changed.

    Each partition's columns are counted, too. The result is 0 if the server does not support the method. Values that
    are stored already are not compressed anew. Later partitions get the method of the table.

    Raises:
        django.db.OperationalError: another transaction kept the tables locked during all attempts (`is_locked`).
    """
    with connection.cursor() as cursor:
        cursor.execute(OFFERED, [method])
        if cursor.fetchone() != (True,):  # built without it, or older than PostgreSQL 14
            return 0
        cursor.execute(STATEMENTS, [method, table, list(columns), method[0]])
        statements = [statement for (statement,) in cursor.fetchall()]

    def change(cursor: CursorWrapper) -> None:
        for statement in statements:
            cursor.execute(statement)

    if statements:
        change_tables(change)
    return len(statements)
