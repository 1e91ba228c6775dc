"""Owns forgetting: rows and bodies past their time go, in small batches; sums stay for ever. Orphaned holds go too.

A request id is a UUIDv7, so "older than" is a range of the primary key and needs no other index.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import Error, connection, connections, transaction

from usage.database_lock import try_lock
from usage.holds import drop_orphans
from usage.models import LedgerState, Span, UsageTotal

logger = logging.getLogger(__name__)

BATCH_SIZE = 2000
PAUSE_SECONDS = 0.05
HOUR_SECONDS = 3600.0
STOP_SECONDS = 2.0
MINUTES_KEPT = timedelta(days=3)  # the totals of minutes, which only the dashboard's shortest times need
LOCK = 0x7072756E  # any number that all our processes share


def prune(now: datetime | None = None, stopping: threading.Event | None = None) -> tuple[int, int]:
    """Deletes what is older than RETENTION_DAYS and BODY_RETENTION_DAYS (0: for ever), until `stopping` is set.

    Returns how many rows and how many bodies went.
    """
    now = now or datetime.now(UTC)
    stopping = stopping or threading.Event()
    bodies = rows = 0
    UsageTotal.objects.filter(span=Span.MINUTE, start__lt=now - MINUTES_KEPT).delete()
    if settings.BODY_RETENTION_DAYS:
        bodies = _delete("usage_requestbody", now - timedelta(days=settings.BODY_RETENTION_DAYS), stopping)
    if settings.RETENTION_DAYS:
        oldest = now - timedelta(days=settings.RETENTION_DAYS)
        # Sums of an hour or a day that is partly pruned can no longer be compared with their rows.
        state = LedgerState.load()
        comparable = oldest + timedelta(days=1)
        state.pruned_before = max(state.pruned_before or comparable, comparable)
        state.save(update_fields=["pruned_before"])
        bodies += _delete("usage_requestbody", oldest, stopping)
        _delete("usage_countedresponse", oldest, stopping)
        _delete("usage_storedobject", oldest, stopping, condition="NOT lasts")
        rows = _delete("usage_request", oldest, stopping)
    return rows, bodies


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _delete(table: str, before: datetime, stopping: threading.Event, *, condition: str = "true") -> int:
    total = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE request_id IN"
                f" (SELECT request_id FROM {table} WHERE request_id < %s AND {condition}"
                f" ORDER BY request_id LIMIT {BATCH_SIZE}) AND {condition}",
                [first_id(before)],
            )
            count: int = cursor.rowcount
        total += count
        if count < BATCH_SIZE or stopping.wait(PAUSE_SECONDS):
            return total


class DailyPruning:
    """A thread that prunes once a day, in one of all processes: whoever has the advisory lock."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns in seconds: what is being deleted rolls back, and a database that hangs holds nobody up."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(HOUR_SECONDS):
            try:
                drop_orphans()
                prune_if_due(self._stopping)
            except Error as error:
                logger.warning("pruning failed and is tried again in an hour: %s", type(error).__name__)
            finally:
                connections.close_all()


def prune_if_due(stopping: threading.Event | None = None) -> bool:
    """Prunes unless some process has done so in the last day, or is doing it."""
    with try_lock(LOCK) as is_mine:
        if not is_mine:
            return False
        state = LedgerState.load()
        if state.pruned_at and datetime.now(UTC) - state.pruned_at < timedelta(days=1):
            return False
        rows, bodies = prune(stopping=stopping)
        if stopping and stopping.is_set():
            return False
        LedgerState.objects.filter(pk=state.pk).update(pruned_at=datetime.now(UTC))
        logger.info("pruned %d rows and %d bodies", rows, bodies)
        return True
