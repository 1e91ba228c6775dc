"""Ships journals into the tables: this process's journal as it grows, and those that dead processes have left.

Records are read at least once, and are in the tables exactly once (`usage.journal_shipping.rows`). A segment is deleted
only after all of it has been delivered, so no position needs to be stored on disk. A call whose process died before the
call's end gets a row with the outcome `interrupted`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from django.db import connections

from usage.call_record import CallRecord
from usage.journal import segments, undelivered
from usage.journal.records import scan
from usage.journal.undelivered import NEWER, NEWER_RETRIED
from usage.journal.writer import Journal, Segment
from usage.journal_shipping.delivery import Delivery, GaveUp
from usage.journal_shipping.rows import interrupted

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
# A transaction costs as much as thirty rows: under load it is better to wait for more of them.
BUSY_ROWS, BUSY_PAUSES = 20, 5
ADOPT_SECONDS = 5.0
LONGEST_BACKOFF = 30.0


class Shipper:
    """The thread that writes the records in the journals to the database.

    Each process that writes a journal has such a thread.
    """

    def __init__(self, journal: Journal) -> None:
        self.delivery = Delivery(journal.directory)
        self.complete_at = time.monotonic()  # all records that were written before this moment are in the database
        self.fault = ""  # the class name of the unexpected error that ended the last round; empty without one
        self._journal = journal
        self._offsets: dict[Path, int] = {}
        self._adopted_at = 0.0
        self._awaited = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Writes the rest of this process's closed journal to the database, and stops the thread.

        This takes `seconds` at most. What is still in the journal then is written by the next process. Returns False if
        the thread has not ended in time, because the database does not answer.
        """
        self.delivery.deadline = time.monotonic() + seconds
        self._stopping.set()
        self.delivery.hurry.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("the shipper is not through; %d bytes stay in the journal", self.lag_bytes)
        return not self._thread.is_alive()

    def ship_soon(self) -> None:
        """Asks the shipper's thread to write the journal to the database now, without its usual pause.

        This is called when a call of a key with a budget has ended, because writing the call's row ends its
        reservation.
        """
        self._awaited = True

    @property
    def lag_bytes(self) -> int:
        """The number of bytes of this process's journal that are not in the database yet."""
        return sum(segment.written - self._offsets.get(segment.path, 0) for segment in list(self._journal.segments))

    def _run(self) -> None:
        """Runs in the shipper's thread: writes the journals to the database until the thread is stopped.

        At the end, the thread's database connections are closed.
        """
        try:
            self._ship_until_stopped()
        finally:
            connections.close_all()

    def _ship_until_stopped(self) -> None:
        """Writes the journals to the database in rounds until the thread is stopped.

        The pauses between rounds grow while rounds fail.
        """
        backoff = IDLE_SECONDS
        while True:
            stopping = self._stopping.is_set()
            delivered = self.delivery.delivered
            self._awaited, pauses = False, 1
            try:
                self._ship_once(adopting=not stopping)
                self.fault = ""
                backoff = IDLE_SECONDS
                pauses = BUSY_PAUSES if self.delivery.delivered - delivered >= BUSY_ROWS else 1
            except GaveUp:
                logger.warning("the database is away; %d bytes stay in the journal", self.lag_bytes)
                return
            except Exception as fault:  # the border: everything is still in the journal, so it is tried again
                logger.exception("the shipper failed and tries again")
                self.fault = type(fault).__name__
                backoff = min(backoff * 2, LONGEST_BACKOFF)
            if stopping:
                return
            for _ in range(pauses):
                if self._stopping.wait(backoff) or self._awaited:
                    break

    def _ship_once(self, *, adopting: bool) -> None:
        """Writes this process's journal to the database and, every `ADOPT_SECONDS`, journals left by dead processes."""
        if self.fault:
            connections.close_all()
        if adopting:
            self.delivery.refresh_prices()
        self._ship_own()
        if adopting and time.monotonic() - self._adopted_at >= ADOPT_SECONDS:
            with suppress(_Stopping):
                adopt_dead(self._journal.directory, self.delivery, self._journal.writer, self._ship_between)
            self._adopted_at = time.monotonic()

    def _ship_between(self) -> None:
        """Writes this process's own records to the database between two parts of a dead process's journal.

        A dead process's journal may be long, and the calls of this process should not wait for its end.

        Raises:
            _Stopping: this process ends, so the rest of the dead process's journal is left to the next process.
        """
        if self._stopping.is_set():
            raise _Stopping
        self._ship_own()

    def _ship_own(self) -> None:
        """Writes all records that are now in this process's own journal to the database."""
        began = time.monotonic()
        for segment in list(self._journal.segments):
            self._ship(segment)
        self.complete_at = began

    def _ship(self, segment: Segment) -> None:
        """Writes the new records of one journal file to the database; deletes the file if it is closed."""
        offset = self._offsets.get(segment.path, 0)
        closed = segment.closed  # read before the size, because a closed file does not grow any more
        size = segment.written  # read once: records that come meanwhile wait for the next round, and fill its batches
        while offset < size:
            found = segments.read_from(segment.path, offset, size)
            ends = [record for record in found.records if record["kind"] == "end"]
            guesses = self.delivery.set_aside(found.damaged) + self.delivery.set_aside_newer(found.newer)
            self.delivery.deliver(ends + guesses)
            offset = self._offsets[segment.path] = offset + found.size
        if closed:
            self._journal.delete_shipped(segment)
            self._offsets.pop(segment.path, None)


class _Stopping(Exception):
    """Error: this process ends, so that the journals of dead processes are left to the next process."""


def adopt_dead(
    directory: Path, delivery: Delivery, besides: str = "", between: Callable[[], None] = lambda: None
) -> None:
    """Writes the journals that dead processes have left in `directory` to the database, and deletes them.

    The journal of the process with the id `besides` is left alone. The function `between` is called after each part of
    a journal, so that other records need not wait for the end of a long one.
    """
    for writer in segments.writers(directory):
        if writer == besides:
            continue
        with segments.adopted(directory, writer) as paths:
            if paths:
                delivery.load_pruned()
                _ship_dead(paths, delivery, between)
                for path in paths:
                    path.unlink(missing_ok=True)


def _ship_dead(paths: Iterable[Path], delivery: Delivery, between: Callable[[], None]) -> None:
    """Writes the journal files of one dead process to the database.

    A call that began in these files and did not end in them gets a row with the outcome `interrupted`.
    """
    begun: dict[str, CallRecord] = {}
    for path in paths:
        for found in segments.read_all(path):
            begun.update((record["request_id"], record) for record in found.records if record["kind"] == "begin")
            for guess in delivery.set_aside(found.damaged) + delivery.set_aside_newer(found.newer):
                begun.setdefault(guess["request_id"], guess)
            ends = [record for record in found.records if record["kind"] == "end"]
            delivery.deliver(delivery.without_pruned(ends))
            for record in ends:
                begun.pop(record["request_id"], None)
            between()
    if begun:
        logger.warning("%d calls may have been interrupted by the end of their process", len(begun))
    delivery.deliver(delivery.without_pruned([interrupted(record) for record in begun.values()]))


def replay(directory: Path) -> Delivery:
    """Tries again to write to the database what could not be written before; the command `ledger replay` calls it.

    These are the dead letters (rows that the database has refused), the records of a newer version of chatproxy, and
    the journals of dead processes. A row that is refused again becomes a dead letter again; a record whose version is
    still unknown stays in `newer.log`; a dead letter that cannot be read goes to `damaged.log`. Returns the `Delivery`
    that has done this; its counters say how many rows were written or refused, and how many records were damaged or of
    a newer version.

    Raises:
        GaveUp: the database cannot be reached.
    """
    delivery = Delivery(directory, deadline=time.monotonic())
    retried = undelivered.begin_retry(directory)
    if retried.exists():
        delivery.load_pruned()
        torn = []
        for line in retried.read_bytes().splitlines():
            letter = undelivered.read_letter(line)
            if letter is not None:
                delivery.deliver(delivery.without_pruned([letter]))
            elif line:
                torn.append(line)
        delivery.set_aside_letters(torn)
        retried.unlink()
    _replay_newer(directory, delivery)
    adopt_dead(directory, delivery)
    return delivery


def _replay_newer(directory: Path, delivery: Delivery) -> None:
    """Writes to the database the records in the file `newer.log` whose version this code can read.

    The other records are appended to `newer.log` again.
    """
    retried = undelivered.begin_retry(directory, NEWER, NEWER_RETRIED)
    if not retried.exists():
        return
    delivery.load_pruned()
    found = scan(retried.read_bytes())
    delivery.set_aside(found.damaged)
    delivery.set_aside_newer(found.newer)
    delivery.deliver(delivery.without_pruned([record for record in found.records if record["kind"] == "end"]))
    retried.unlink()
