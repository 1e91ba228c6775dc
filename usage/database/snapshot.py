"""Reads several queries' data as they were at one moment: numbers of one page that add up, while calls are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Context manager that runs its block in a transaction whose queries all see the same moment of the database.

    Nothing can be written in that transaction. If a transaction has begun already, the block just runs in it, and its
    queries see what that transaction sees.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
