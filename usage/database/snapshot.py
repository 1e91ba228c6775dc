"""Reads several queries' data as they were at one moment: numbers of one page that add up, while calls are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Runs the `with` block in a transaction in which all queries see the database as the first of them does.

    Nothing can be written in it. Within a transaction that has begun already, the block runs as a part of that.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
