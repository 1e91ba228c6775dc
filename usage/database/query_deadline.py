"""Bounds the time that a page waits for the database: one deadline for all of its queries, `limit_query_time`.

The deadline holds for a query that is slow, for one that waits for a lock, and when PostgreSQL has stopped answering.
A query that reaches it is cancelled, and its connection is closed. Queries outside `limit_query_time` have no deadline
here: the shipper, reservations and commands have time limits of their own.
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
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def limit_query_time(seconds: float | None = None) -> Iterator[None]:
    """Sets one deadline for all database queries in the `with` block: `seconds` from now, by default `PAGE_SECONDS`.

    A query that has no answer by then raises `OperationalError`.
    """
    token = _deadline.set(time.monotonic() + (PAGE_SECONDS if seconds is None else seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


class DeadlineConnection(psycopg.Connection[TupleRow]):
    """Connection to PostgreSQL that cancels its query at the deadline that `limit_query_time` has set."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Waits for PostgreSQL's answer to a query; at the deadline, cancels the query and closes the connection.

        Raises:
            psycopg.OperationalError: the database has not answered in time.
        """
        deadline = _deadline.get()
        if deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(0.0, deadline - time.monotonic()))
        except psycopg.OperationalError:
            if time.monotonic() < deadline:
                raise
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)
            self.close()
            raise psycopg.OperationalError("the database has not answered in time") from None
