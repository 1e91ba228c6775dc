"""Owns the way of a call into the database, off the event loop: `begin`, then `end`.

Invariants: neither ever waits for the database; a row is written once, under its request id; a
database that is away is waited for, and what could not be written is said in the log.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from usage.models import Request

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
LONGEST_BACKOFF = 5.0
DRAIN_SECONDS = 20.0


class Ledger:
    """One background thread that writes rows in batches."""

    def __init__(self) -> None:
        self.open_calls: dict[str, dict[str, Any]] = {}
        self.database_error = ""
        self._rows: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes what is waiting, for `DRAIN_SECONDS` at most."""
        self._stopping.set()
        self._rows.put(None)
        if self._thread is not None:
            self._thread.join(DRAIN_SECONDS)
        if self._rows.qsize():
            logger.error("stopped with %d calls not written to the ledger", self._rows.qsize())

    def begin(self, request_id: str, facts: dict[str, Any]) -> None:
        """Notes that a call is about to go upstream."""
        self.open_calls[request_id] = facts

    def end(self, request_id: str, row: dict[str, Any]) -> None:
        """Hands over the finished call: the columns of one `Request`."""
        self.open_calls.pop(request_id, None)
        self._rows.put(row)

    @property
    def waiting(self) -> int:
        return self._rows.qsize()

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                self._write(batch)
            if last:
                connections.close_all()
                return

    def _next_batch(self) -> tuple[list[dict[str, Any]], bool]:
        batch: list[dict[str, Any]] = []
        row = self._rows.get()
        while row is not None:
            batch.append(row)
            if len(batch) == BATCH_SIZE or self._rows.empty():
                return batch, False
            row = self._rows.get()
        return batch, True

    def _write(self, batch: list[dict[str, Any]]) -> None:
        backoff = 0.1
        deadline: float | None = None
        while True:
            try:
                Request.objects.bulk_create([Request(**row) for row in batch], ignore_conflicts=True)
            except (OperationalError, InterfaceError) as error:
                self.database_error = type(error).__name__
                logger.warning("the database is away (%s); %d calls wait", self.database_error, len(batch))
            except (DatabaseError, ValueError) as error:
                self._write_one_by_one(batch, error)
                return
            else:
                self.database_error = ""
                return
            finally:
                connections.close_all()
            if self._stopping.is_set():
                deadline = deadline or time.monotonic() + DRAIN_SECONDS
                if time.monotonic() > deadline:
                    logger.error("gave up on the database; %d calls not written", len(batch))
                    return
            self._stopping.wait(backoff) if not self._stopping.is_set() else time.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _write_one_by_one(self, batch: list[dict[str, Any]], error: Exception) -> None:
        if len(batch) == 1:
            logger.error("call %s cannot be written: %s", batch[0]["request_id"], error)
            return
        for row in batch:
            self._write([row])


ledger = Ledger()
