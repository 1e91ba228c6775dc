"""Shows several queries the same moment of the database, so that a page's numbers add up while calls are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Context manager that runs its block in a transaction whose queries all see the same moment of the database.

    The transaction is read-only. If a transaction is open already, no new one is begun: the queries of the block belong
    to the open transaction, and see the same moment only if it was begun for that.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
