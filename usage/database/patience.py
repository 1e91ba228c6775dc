"""Owns how long a page waits for the database: so many seconds for all that it asks, whether a query is slow, waits for
a lock, or PostgreSQL has stopped without a word.

Only what runs within `limited_patience` is bounded: the shipper, reservations and commands have their own. A query
whose time is up is cancelled, and its connection is closed.
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
CANCEL_SECONDS = 1.0  # a server that has stopped does not take that in either

T = TypeVar("T")
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def limited_patience(seconds: float = PAGE_SECONDS) -> Iterator[None]:
    """What has not been answered by then raises `OperationalError`, and so does all that is asked after."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


class ImpatientConnection(psycopg.Connection[TupleRow]):
    """Looks at the clock of `limited_patience`."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
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
