"""Limits the time that a page waits for the database, with one limit for all of its queries: `limit_query_time`.

Only the waiting counts, since a page's other work may take long on a busy machine without any fault of the database (a
login hashes a password). The limit holds for a slow query, for one that waits for a lock, and when PostgreSQL has
stopped answering. A query that reaches the limit is cancelled, and its connection is closed. Queries outside
`limit_query_time` have no limit here: the shipper, reservations and commands have time limits of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

PAGE_SECONDS = 5.0
CANCEL_SECONDS = 1.0  # for the cancellation, which a server that has stopped does not answer either

T = TypeVar("T")


class Allowance:
    """The time that the database queries of a page may still take in total: `left` seconds."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def limit_query_time(seconds: float | None = None) -> Iterator[None]:
    """Context manager that limits the total time for which the database queries in its block may wait for PostgreSQL.

    The limit is `seconds`, by default `PAGE_SECONDS`. A query that exceeds it is cancelled and raises
    `django.db.OperationalError`, and the connection is closed.
    """
    token = _allowance.set(Allowance(PAGE_SECONDS if seconds is None else seconds))
    try:
        yield
    finally:
        _allowance.reset(token)


class DeadlineConnection(psycopg.Connection[TupleRow]):
    """Connection to PostgreSQL whose queries obey `limit_query_time`: a query that takes too long is cancelled."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Waits for PostgreSQL's answer to a query, and returns it; not longer than a `limit_query_time` block allows.

        Raises:
            psycopg.OperationalError: the connection has broken; or no answer came in time, and the query was cancelled
                and the connection closed.
        """
        allowance = _allowance.get()
        if allowance is None:
            return super().wait(gen, interval, timeout)
        started, left = time.monotonic(), allowance.left
        try:
            return super().wait(gen, interval, max(0.0, left))
        except psycopg.OperationalError:
            if time.monotonic() - started < left:
                raise
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)
            self.close()
            raise psycopg.OperationalError("the database has not answered in time") from None
        finally:
            allowance.left -= time.monotonic() - started
