"""Shows several queries the same moment of the database, so that a page's numbers add up while calls are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Context manager that runs its block in a read-only transaction, whose queries all see the same data.

    If a transaction is open already, the block runs in that one, with its isolation level. Then its queries see the
    same data only if that transaction is REPEATABLE READ.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
