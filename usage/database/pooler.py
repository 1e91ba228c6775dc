"""Recognises a connection pooler, such as PgBouncer, between this process and PostgreSQL."""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow


def is_pooled(database: psycopg.Connection[TupleRow]) -> bool:
    """Returns whether a connection leads to a connection pooler, such as PgBouncer, instead of PostgreSQL itself.

    A pooler is recognised because the process id that it has reported is not the one of the PostgreSQL session.

    Raises:
        psycopg.Error: the database does not answer.
    """
    [(session,)] = database.execute("SELECT pg_backend_pid()").fetchall()
    return bool(session != database.info.backend_pid)
