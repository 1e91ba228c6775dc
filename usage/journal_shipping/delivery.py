"""Writes journal records to PostgreSQL, and sets aside in files those that cannot be written.

If the database is away, delivery waits until it is back. A row that the database refuses is found by halving its batch;
it is stored in the dead-letter file, and a shortened row (a stub) takes its place in the table. Damaged lines, and
records of a newer version of this code, are each appended to a file, and the calls in them get a row `interrupted`.
Records of a dead process that are older than the newest pruned (deleted) row are appended to a file, too, and not
delivered: their journal was restored from a backup, and the sums already include their calls.

Over 300 lines, since all that may become of a record on its way is in one place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from math import ceil
from pathlib import Path

import orjson
import psycopg
from django.db import DataError, Error, IntegrityError, connections

from usage.call_record import CallRecord
from usage.database.clock import database_started_at
from usage.database.fault_words import words_of
from usage.ids import started_at
from usage.journal import undelivered
from usage.journal.records import damaged_id
from usage.journal.undelivered import DAMAGED, DEAD_LETTERS, NEWER, PRUNED
from usage.journal_shipping.rows import interrupted, write_rows
from usage.journal_shipping.stub_rows import bare_stub, is_stub, least_stub, stub
from usage.metric_counters import counters
from usage.money.row_pricing import Pricer
from usage.sums.pruned_calls import hours_with_pruned_calls, pruned_ids_end

logger = logging.getLogger(__name__)

# Batches of 500 take a fifth more CPU a row; 2,000 gain little, and workers wait longer for their leases.
BATCH_SIZE = 1250
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
NO_ANSWER = "NoAnswer: it does not answer"
SILENCE_SECONDS = 5.0  # a database that needs longer for one batch counts as unreachable
# Errors that a row has caused. Every other error of the database is an outage, after which the write is tried again.
POISON = (DataError, IntegrityError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class GaveUp(Exception):
    """Error: the database could not be reached before the deadline, so some records stay in the journal only."""


class Delivery:
    """The writer of calls' records to the database, with their prices. Records that it cannot write go to files.

    Only one thread may use it. While the database cannot be reached, each write is tried again until `deadline`, in
    seconds of `time.monotonic()`. If `deadline` is None, it is tried without end.
    """

    def __init__(self, directory: Path, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.database_error = ""
        self.delivered = self.dead_letters = self.damaged = self.newer = 0
        self.hurry = threading.Event()
        self._directory = directory
        # The rows of calls with a lower request id have been pruned. UUIDs as text sort in the order of their numbers.
        self._pruned_end = ""
        self._pruned_hours: set[datetime] = set()
        self._asked_at: float | None = None
        self._is_silence_logged = False
        self._server_started_at: datetime | None = None
        self._server_changes = 0
        self._lock = threading.Lock()  # of `database_error` and what the log has said of it; another thread looks, too
        self.pricer = Pricer()

    def deliver(self, rows: Sequence[CallRecord]) -> None:
        """Prices calls' rows and writes them to the database, in batches of about equal size, one after the other.

        A row that the database refuses goes to the dead-letter file, and a stub (a shortened row) is written instead.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        # A short batch at the end would write the same sums for few rows.
        size = ceil(len(rows) / max(1, ceil(len(rows) / BATCH_SIZE)))
        for start in range(0, len(rows), max(1, size)):
            self._deliver(rows[start : start + size])

    def refresh_prices(self) -> None:
        """Reads the administrator's prices and the price list anew, unless they were read in the last half minute.

        As long as nothing was priced, only the administrator's prices are read. Errors of the database are ignored.
        """
        # The administrator's prices are read even without calls, so that the first call can be priced at once. The
        # list would take 30 MB and a third of a second of CPU, also of a server that nobody calls.
        self._asked_at = time.monotonic()
        try:
            if self.pricer.refresh(loads_list=False):
                self._note_answer()
        except Error:
            connections.close_all()  # `deliver` meets the same outage, and waits for its end
        finally:
            self._asked_at = None

    @property
    def database_fault(self) -> str:
        """The reason why writes to the database fail now, such as "OperationalError: it cannot be reached"; else empty.

        It is `NO_ANSWER` if a statement has waited for an answer for `SILENCE_SECONDS`.
        """
        asked_at = self._asked_at
        silent = asked_at is not None and time.monotonic() - asked_at > SILENCE_SECONDS
        return self.database_error or (NO_ANSWER if silent else "")

    def log_silence(self) -> None:
        """Logs once in each outage that the database does not answer; for a thread that does not wait for it itself."""
        with self._lock:
            if not self._is_silence_logged and self.database_fault == NO_ANSWER:
                self._is_silence_logged = True
                logger.warning("the database is away: it does not answer")

    def _note_answer(self) -> None:
        """Notes that the database has answered, and logs the end of a logged outage."""
        with self._lock:
            if self.database_error or self._is_silence_logged:
                logger.info("the database is back")
            self.database_error, self._is_silence_logged, self._asked_at = "", False, None

    def set_aside(self, damaged: Sequence[bytes]) -> list[CallRecord]:
        """Appends unreadable journal lines to the file `damaged.log`, and logs and counts them.

        Returns a row with the outcome `interrupted` for each request id that can still be read in the lines.
        """
        if not damaged:
            return []
        self.damaged += len(damaged)
        counters.count_damaged_records(len(damaged))
        logger.error("%d damaged journal records set aside in %s", len(damaged), DAMAGED)
        undelivered.append(self._directory / DAMAGED, damaged)
        ids = {request_id for line in damaged if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def set_aside_newer(self, lines: Sequence[bytes]) -> list[CallRecord]:
        """Appends journal lines of a newer version of chatproxy to the file `newer.log`, and logs their number.

        Returns a row with the outcome `interrupted` for each request id that can be read in the lines. The newer
        version's `ledger replay` replaces these rows by the real ones.
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
        undelivered.append(self._directory / NEWER, lines)
        ids = {request_id for line in lines if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def set_aside_letters(self, torn: Sequence[bytes]) -> None:
        """Appends unreadable lines of the dead-letter file to the file `damaged.log`, and logs and counts them."""
        # Their calls need no row: each got a stub when the database refused its real row.
        if not torn:
            return
        self.damaged += len(torn)
        counters.count_damaged_records(len(torn))
        logger.error("%d dead letters cannot be read, and are set aside in %s", len(torn), DAMAGED)
        undelivered.append(self._directory / DAMAGED, torn)

    def count_server_changes(self) -> int:
        """Returns how often another PostgreSQL server has answered than before, or the same one after a restart.

        Such a server may lack the rows that were written last: a standby, for example, gets them a moment later.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        self._when_database_is_there(self._ask_for_server)
        return self._server_changes

    def load_pruned(self) -> None:
        """Reads and remembers the request id below which calls' rows were deleted from the database for their age.

        Call this before a dead process's journal is read, so that `without_pruned` can leave out such calls.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        self._when_database_is_there(self._ask_for_pruned)

    def without_pruned(self, rows: Sequence[CallRecord]) -> list[CallRecord]:
        """Returns `rows` without the calls whose rows the database had, and has deleted for their age.

        Call `load_pruned` before. The rows left out are appended to `pruned.log`; their calls are in the sums already.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        old = {row["request_id"]: _hour(row) for row in rows if str(row["request_id"]) < self._pruned_end}
        if not old:
            return list(rows)
        # An id may seem old because a wrong clock made it. The sums tell: they count only calls that have had rows.
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
        undelivered.append(self._directory / PRUNED, kept)
        return [row for row in rows if row["request_id"] not in pruned]

    def _ask_for_server(self) -> None:
        """Compares the start of the server that answers now with that of the one before, and counts a change."""
        before, self._server_started_at = self._server_started_at, database_started_at()
        if before not in {None, self._server_started_at}:
            self._server_changes += 1
            logger.info("PostgreSQL was restarted, or another server answers: what the journals have is shipped again")

    def _ask_for_pruned(self) -> None:
        """Stores in `_pruned_end` the request id below which rows were deleted for their age; "" if none were."""
        end = pruned_ids_end()
        self._pruned_end = str(end) if end else ""

    def _ask_for_hours(self, hours: set[datetime]) -> None:
        """Stores in `_pruned_hours` those of `hours` from which calls were deleted from the database for their age."""
        self._pruned_hours = hours_with_pruned_calls(hours)

    def _deliver(self, rows: Sequence[CallRecord]) -> None:
        """Prices a batch of rows, and writes it in one transaction; if the database refuses it, delivers each half."""
        try:
            self._when_database_is_there(lambda: write_rows(self.pricer.priced(rows)))
        except POISON as error:
            self._bisect(rows, error)
        else:
            self.delivered += len(rows)

    def _bisect(self, rows: Sequence[CallRecord], error: Exception) -> None:
        """Delivers rows that the database has refused as one batch, with `error`: in halves, down to single rows.

        A single refused row is appended to the dead-letter file, and a shortened row (a stub) is delivered instead. For
        a refused stub, a still shorter one is delivered. If the shortest is refused, this is only logged.
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
        undelivered.append(self._directory / DEAD_LETTERS, [letter])
        self._deliver([stub(row)])

    def _when_database_is_there(self, write: Callable[[], object]) -> None:
        """Calls `write`, which uses the database, until it succeeds.

        The pauses between the attempts grow up to five seconds; setting the event `hurry` ends a pause. During a pause,
        `database_error` says what is wrong.

        Raises:
            GaveUp: the next attempt would be after the deadline.
            Exception: one of the types in `POISON`: the data are at fault, so `write` is not called again.
        """
        backoff = FIRST_BACKOFF
        while True:
            self._asked_at = time.monotonic()
            try:
                write()
            except POISON as error:
                if isinstance(error, Error):  # others may have been raised before the database was asked
                    self._note_answer()
                raise
            except Error as error:
                if _is_limit(error):
                    self._note_answer()
                    raise DataError(str(error)) from error
                connections.close_all()
                with self._lock:
                    if not self.database_error and not self._is_silence_logged:
                        logger.warning("the database is away: %s", str(error).strip().partition("\n")[0])
                    self.database_error = words_of(error)
            else:
                self._note_answer()
                return
            finally:
                self._asked_at = None
            if self.deadline is not None and time.monotonic() + backoff > self.deadline:
                raise GaveUp
            self.hurry.wait(backoff)
            self.hurry.clear()
            backoff = min(backoff * 2, LONGEST_BACKOFF)


def _is_limit(error: Error) -> bool:
    """Returns whether an error says that a row exceeds a limit of PostgreSQL, such as the size of an index entry.

    Django reports it as an `OperationalError`, like an outage, but trying again does not help.
    """
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith("54")


def _hour(row: CallRecord) -> datetime:
    """Returns the start of the hour in which a call began, from the time in the call's request id."""
    return started_at(str(row["request_id"])).replace(minute=0, second=0, microsecond=0)
