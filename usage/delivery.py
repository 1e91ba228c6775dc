"""Owns the delivery of journal records to PostgreSQL, and what is done when it will not take them.

A database outage is waited out, never given up on while the process lives. A record that the
database refuses is bisected out of its batch, kept in a dead-letter file, and leaves a stub row.
A damaged line is kept in a file of its own; the call that it names still gets a row. So is a dead writer's record that
is older than what has been pruned: a journal that was restored from a backup, whose calls the sums have counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from django.db import DataError, Error, IntegrityError, connections

from usage.ids import first_id
from usage.pricing import Pricer
from usage.records import damaged_id
from usage.retention import FIRST_CALL, pruned_ids_end
from usage.rows import interrupted, is_stub, least_stub, stub, write_rows

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
SILENCE_SECONDS = 5.0  # a database that takes longer for a batch counts as away
DAMAGED = "damaged.log"
PRUNED = "pruned.log"
DEAD_LETTERS = "deadletter.log"
# What a row itself can be blamed for; every other database error is the database's and is waited out.
POISON = (DataError, IntegrityError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)

Row = dict[str, Any]


class GaveUp(Exception):
    """The process ends before the database came back; what is left stays in the journal."""


class Delivery:
    """Delivers for one thread. `deadline` is on the monotonic clock; None waits for as long as it takes."""

    def __init__(self, directory: Path, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.database_error = ""
        self.delivered = 0
        self.dead_letters = 0
        self.damaged = 0
        self.hurry = threading.Event()
        self._directory = directory
        # Ids of rows that have been pruned are between these; a UUID's text sorts as its number.
        self._pruned_begin, self._pruned_end = str(first_id(FIRST_CALL)), ""
        self._asked_at: float | None = None
        self.pricer = Pricer()

    def deliver(self, rows: Sequence[Row]) -> None:
        """Returns when every row is in the tables or in the dead-letter file.

        Raises:
            GaveUp: the deadline passed while the database was away.
        """
        for start in range(0, len(rows), BATCH_SIZE):
            self._deliver(rows[start : start + BATCH_SIZE])

    def refresh_prices(self) -> None:
        """Own prices are known before the first row; that the database is away is for the rows to notice."""
        self._asked_at = time.monotonic()
        try:
            self.pricer.refresh()
        except Error:
            connections.close_all()
        finally:
            self._asked_at = None

    @property
    def database_fault(self) -> str:
        """What is wrong with the database; empty when nothing is. One that hangs raises no error."""
        asked_at = self._asked_at
        silent = asked_at is not None and time.monotonic() - asked_at > SILENCE_SECONDS
        return self.database_error or ("NoAnswer" if silent else "")

    def set_aside(self, damaged: Sequence[bytes]) -> list[Row]:
        """Keeps damaged lines; returns a row `interrupted` for each call that they name."""
        if not damaged:
            return []
        self.damaged += len(damaged)
        logger.error("%d damaged journal records set aside in %s", len(damaged), DAMAGED)
        self._keep(DAMAGED, damaged)
        ids = {request_id for line in damaged if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def find_pruned(self) -> None:
        """Asks which rows have been pruned, before a dead writer's journal is delivered.

        Raises:
            GaveUp: the deadline passed while the database was away.
        """
        self._when_database_is_there(self._ask_for_pruned)

    def without_pruned(self, rows: Sequence[Row]) -> list[Row]:
        """The rows but those of before what has been pruned, which would be counted a second time; these are kept.

        An id from before the API existed is of a wrong clock, and was never pruned.
        """
        if not self._pruned_end:
            return list(rows)
        pruned: list[Row] = []
        others: list[Row] = []
        for row in rows:
            is_pruned = self._pruned_begin <= str(row["request_id"]) < self._pruned_end
            (pruned if is_pruned else others).append(row)
        if not pruned:
            return others
        logger.warning(
            "%d calls of a dead process's journal are older than what has been pruned, and are not shipped again; "
            "they are in %s",
            len(pruned),
            PRUNED,
        )
        self._keep(PRUNED, [orjson.dumps(row, default=str) for row in pruned])
        return others

    def _ask_for_pruned(self) -> None:
        end = pruned_ids_end()
        self._pruned_end = str(end) if end else ""

    def _deliver(self, rows: Sequence[Row]) -> None:
        try:
            self._when_database_is_there(lambda: write_rows(self.pricer.priced(rows)))
        except POISON as error:
            self._bisect(rows, error)
        else:
            self.delivered += len(rows)

    def _bisect(self, rows: Sequence[Row], error: Exception) -> None:
        if len(rows) > 1:
            middle = len(rows) // 2
            self._deliver(rows[:middle])
            self._deliver(rows[middle:])
            return
        row = rows[0]
        if is_stub(row):
            if row != (least := least_stub(row)):
                self._deliver([least])
                return
            logger.error("the stub of call %s cannot be written: %s", row["request_id"], type(error).__name__)
            return
        self.dead_letters += 1
        logger.error("call %s cannot be written (%s): dead-lettered", row.get("request_id"), type(error).__name__)
        self._keep(DEAD_LETTERS, [orjson.dumps({**row, "fault": str(error)[:500]}, default=str)])
        self._deliver([stub(row)])

    def _when_database_is_there(self, write: Callable[[], object]) -> None:
        backoff = FIRST_BACKOFF
        while True:
            self._asked_at = time.monotonic()
            try:
                write()
            except POISON:
                raise
            except Error as error:
                connections.close_all()
                if not self.database_error:
                    logger.warning("the database is away: %s", str(error).strip().partition("\n")[0])
                self.database_error = type(error).__name__
            else:
                if self.database_error:
                    logger.info("the database is back")
                self.database_error = ""
                return
            finally:
                self._asked_at = None
            if self.deadline is not None and time.monotonic() + backoff > self.deadline:
                raise GaveUp
            self.hurry.wait(backoff)
            self.hurry.clear()
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _keep(self, name: str, lines: Iterable[bytes]) -> None:
        fd = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
