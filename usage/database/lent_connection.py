"""Gives the database connection of a thread back to Django's pool, before a request has ended."""

from __future__ import annotations

from django.db import connection


def give_back_connection() -> None:
    """Gives this thread's database connection back to the pool, unless a transaction is open.

    The next query takes a connection again. Call this before a long answer is sent. Django itself gives the connection
    back only at the end of the answer, so a few slow readers could take all connections of a worker.
    """
    if not connection.in_atomic_block:
        connection.close()
