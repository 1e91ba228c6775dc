"""Gives the database connection of a thread back to Django's pool, before a request has ended."""

from __future__ import annotations

from django.db import connection


def give_back_connection() -> None:
    """Gives this thread's database connection back to the pool, unless a transaction is open on the connection.

    The thread's next query borrows a connection again. Django itself gives a connection back only when the whole answer
    has been sent, so a few slow readers could hold all connections of a worker, and its other pages would fail.
    """
    if not connection.in_atomic_block:
        connection.close()
