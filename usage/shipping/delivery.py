"""Delivers journal records to PostgreSQL, and sets aside those that cannot be delivered.

An outage of the database is waited out as long as the process lives. A row that the database refuses is found by
halving its batch; it is kept in the dead-letter file, and a stub takes its place in the table. A damaged line, and a
record of a newer version of this code, are kept in files of their own, and the call that they name gets a row
`interrupted`. Records of a dead writer that are older than the newest pruned row are kept, too, and not delivered:
their journal was restored from a backup, and the sums have counted their calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import orjson
from django.db import DataError, Error, IntegrityError, connections

from usage.call_record import CallRecord
from usage.counters import counters
from usage.ids import started_at
from usage.journal import kept_lines
from usage.journal.kept_lines import DAMAGED, DEAD_LETTERS, NEWER, PRUNED
from usage.journal.records import damaged_id
from usage.money.row_pricing import Pricer
from usage.shipping.rows import bare_stub, interrupted, is_stub, least_stub, stub, write_rows
from usage.sums.pruned import hours_with_pruned_calls, pruned_ids_end

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
SILENCE_SECONDS = 5.0  # a database that takes longer for a batch counts as away
# Errors for which the row is to blame; every other error of the database is an outage, and is waited out.
POISON = (DataError, IntegrityError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class GaveUp(Exception):
    """Error: the deadline passed while the database was away.

    Records not written to the database stay in the journal.
    """


class Delivery:
    """A writer of journal records to the database, for one thread. It tries again for as long as the database is away.

    `deadline` is in seconds of `time.monotonic()`; None tries without end.
    """

    def __init__(self, directory: Path, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.database_error = ""
        self.delivered = 0
        self.dead_letters = 0
        self.damaged = 0
        self.newer = 0
        self.hurry = threading.Event()
        self._directory = directory
        self._pruned_end = ""  # below it, ids are of rows that have been pruned; a UUID's text sorts as its number
        self._pruned_hours: set[datetime] = set()
        self._asked_at: float | None = None
        self.pricer = Pricer()

    def deliver(self, rows: Sequence[CallRecord]) -> None:
        """Writes the rows of calls to the database; returns when each is in its table or in the dead-letter file.

        Raises:
            GaveUp: the deadline passed while the database was away.
        """
        for start in range(0, len(rows), BATCH_SIZE):
            self._deliver(rows[start : start + BATCH_SIZE])

    def refresh_prices(self) -> None:
        """Reads the administrator's prices from the database if that is due, so that they are there before the first
        row comes.

        An error of the database is ignored here, because `deliver` meets the same outage and waits for its end.
        """
        self._asked_at = time.monotonic()
        try:
            self.pricer.refresh()
        except Error:
            connections.close_all()
        finally:
            self._asked_at = None

    @property
    def database_fault(self) -> str:
        """The class name of the error that the database answers with at present; empty while there is none.

        While the database does not answer at all, it is `NoAnswer`.
        """
        asked_at = self._asked_at
        silent = asked_at is not None and time.monotonic() - asked_at > SILENCE_SECONDS
        return self.database_error or ("NoAnswer" if silent else "")

    def set_aside(self, damaged: Sequence[bytes]) -> list[CallRecord]:
        """Appends damaged journal lines to `damaged.log`.

        Returns a row with the outcome `interrupted` for each request id that can still be read in the lines.
        """
        if not damaged:
            return []
        self.damaged += len(damaged)
        counters.count_damaged_records(len(damaged))
        logger.error("%d damaged journal records set aside in %s", len(damaged), DAMAGED)
        kept_lines.append(self._directory / DAMAGED, damaged)
        ids = {request_id for line in damaged if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def set_aside_newer(self, lines: Sequence[bytes]) -> list[CallRecord]:
        """Appends journal records of a newer version of chatproxy to `newer.log`, so that a replay by that version
        ships them.

        Returns a row with the outcome `interrupted` for each of their calls; the call's real row replaces that row
        after the replay.
        """
        if not lines:
            return []
        self.newer += len(lines)
        logger.error(
            "%d journal records were written by a newer version of chatproxy; they are kept in %s, from which `ledger "
            "replay` of that version ships them",
            len(lines),
            NEWER,
        )
        kept_lines.append(self._directory / NEWER, lines)
        ids = {request_id for line in lines if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def set_aside_letters(self, torn: Sequence[bytes]) -> None:
        """Appends unreadable lines of the dead-letter file to `damaged.log`.

        No row is written for them, because each of their calls got a stub when the database refused its row.
        """
        if not torn:
            return
        self.damaged += len(torn)
        counters.count_damaged_records(len(torn))
        logger.error("%d dead letters cannot be read, and are set aside in %s", len(torn), DAMAGED)
        kept_lines.append(self._directory / DAMAGED, torn)

    def find_pruned(self) -> None:
        """Reads from the database the request id below which all rows have been pruned, for `without_pruned`.

        Call this method before a dead process's journal is delivered.

        Raises:
            GaveUp: the deadline passed while the database was away.
        """
        self._when_database_is_there(self._ask_for_pruned)

    def without_pruned(self, rows: Sequence[CallRecord]) -> list[CallRecord]:
        """Returns the rows except those of calls whose rows have been pruned already; these are appended to
        `pruned.log`.

        Pruned calls are still in the sums, so delivering their rows again would count them twice. A row with an old id
        is returned nevertheless if the sums of its hour count only calls that have rows: then a wrong clock has made
        the id.

        Raises:
            GaveUp: the deadline passed while the database was away.
        """
        old = {row["request_id"]: _hour(row) for row in rows if str(row["request_id"]) < self._pruned_end}
        if not old:
            return list(rows)
        self._when_database_is_there(lambda: self._ask_for_hours({*old.values()}))
        pruned = {request_id for request_id, hour in old.items() if hour in self._pruned_hours}
        if not pruned:
            return list(rows)
        logger.warning(
            "%d calls of a dead process's journal are older than what has been pruned, and are not shipped again; "
            "they are in %s",
            len(pruned),
            PRUNED,
        )
        kept = [orjson.dumps(row, default=str) for row in rows if row["request_id"] in pruned]
        kept_lines.append(self._directory / PRUNED, kept)
        return [row for row in rows if row["request_id"] not in pruned]

    def _ask_for_pruned(self) -> None:
        """Reads from the database the request id below which all rows have been pruned, and remembers that id."""
        end = pruned_ids_end()
        self._pruned_end = str(end) if end else ""

    def _ask_for_hours(self, hours: set[datetime]) -> None:
        """Reads from the database which of the given hours count calls whose rows are pruned, and remembers them."""
        self._pruned_hours = hours_with_pruned_calls(hours)

    def _deliver(self, rows: Sequence[CallRecord]) -> None:
        """Writes one batch of rows in one transaction.

        If the database refuses a row, each half of the batch is tried.
        """
        try:
            self._when_database_is_there(lambda: write_rows(self.pricer.priced(rows)))
        except POISON as error:
            self._bisect(rows, error)
        else:
            self.delivered += len(rows)

    def _bisect(self, rows: Sequence[CallRecord], error: Exception) -> None:
        """Delivers both halves of a batch that the database has refused.

        If the batch is a single row, the row becomes a dead letter, and a stub is written instead. A stub that is
        refused, too, is replaced by a smaller one.
        """
        if len(rows) > 1:
            middle = len(rows) // 2
            self._deliver(rows[:middle])
            self._deliver(rows[middle:])
            return
        row = rows[0]
        if is_stub(row):
            for lesser in (least_stub(row), bare_stub(row)):
                if lesser.keys() < row.keys():
                    self._deliver([lesser])
                    return
            logger.error("the stub of call %s cannot be written: %s", row["request_id"], type(error).__name__)
            return
        self.dead_letters += 1
        counters.count_dead_letter()
        logger.error("call %s cannot be written (%s): dead-lettered", row.get("request_id"), type(error).__name__)
        letter = orjson.dumps({**row, "fault": str(error)[:500]}, default=str)
        kept_lines.append(self._directory / DEAD_LETTERS, [letter])
        self._deliver([stub(row)])

    def _when_database_is_there(self, write: Callable[[], object]) -> None:
        """Calls `write` again, with growing pauses, until the database is back and takes the data.

        Raises:
            GaveUp: the next attempt would be after the deadline.
            Exception: one of `POISON`, at once, because the data are to blame and not the database.
        """
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


def _hour(row: CallRecord) -> datetime:
    """Returns the start of the hour in which a call began, as the call's id says."""
    return started_at(str(row["request_id"])).replace(minute=0, second=0, microsecond=0)
