"""Copies the journals of all processes of this host into the tables ("ships" them): of living and of dead ones.

Records are read at least once, and are in the tables exactly once (`usage.journal_shipping.rows`). One thread does all
of this, in one process of the host (`chatproxy.processes.shipper_process`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from django.db import InterfaceError, OperationalError, connections

from usage.database.fault_words import words_of
from usage.journal import segments, undelivered
from usage.journal.records import scan
from usage.journal.undelivered import NEWER, NEWER_RETRIED
from usage.journal_shipping.delivery import Delivery, GaveUp
from usage.journal_shipping.shipment import JournalShipment
from usage.money.spent_and_reserved import end_leases

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
# A transaction costs as much as thirty rows: under load it is better to wait for more of them.
BUSY_ROWS, BUSY_PAUSES = 20, 4
# After ten seconds without a row, two looks a second are enough for the next one.
QUIET_AFTER_SECONDS, QUIET_PAUSES = 10.0, 2.5
LONGEST_BACKOFF = 5.0  # after errors with one journal; the others wait as long
# After the death of a writer, the database may still execute a statement of its that gets a lease.
LATE_SECONDS = 5.0


class Shipper:
    """The thread that writes the records in all journals of a directory to the database.

    All records that living processes wrote before `complete_at`, in seconds of `time.monotonic()`, are in the database.
    At first, `complete_at` is the time of the start, or the last value of an earlier shipper.
    """

    def __init__(self, directory: Path, complete_at: float | None = None) -> None:
        self.delivery = Delivery(directory)
        self.complete_at = time.monotonic() if complete_at is None else complete_at
        self.fault = ""  # the class name of the unexpected error that ended the last round; empty without one
        self._directory = directory
        self._shipments: dict[str, JournalShipment] = {}  # by writer
        self._ended: dict[str, float] = {}  # when the leases of dead writers were ended (`time.monotonic()`)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Writes the journals' undelivered records to the database, and stops the thread; waits at most `seconds`.

        Returns whether the thread has ended in time. If the database does not answer, the next shipper writes the
        records.
        """
        self.delivery.deadline = time.monotonic() + seconds
        self._stopping.set()
        self.delivery.hurry.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("the shipper is not through; %d bytes stay in the journals", self.lag_bytes)
        return not self._thread.is_alive()

    @property
    def shipped_bytes(self) -> Mapping[str, int]:
        """The number of bytes of each journal file whose records are delivered, by file name.

        Delivered means in the database, or set aside in another file. A journal file that is delivered to its end and
        deleted is absent. Any thread may read this.
        """
        shipments = list(self._shipments.values())
        return {name: size for shipment in shipments for name, size in shipment.shipped_bytes.items()}

    @property
    def lag_bytes(self) -> int:
        """The number of bytes in all journals that are neither in the database yet, nor set aside in a file."""
        return segments.waiting_bytes(self._directory, self.shipped_bytes)

    def _run(self) -> None:
        """Runs as the shipper's thread: writes the journals to the database until the thread is stopped."""
        try:
            self._ship_until_stopped()
        finally:
            connections.close_all()

    def _ship_until_stopped(self) -> None:
        """Writes the journals to the database again and again, until the thread is told to stop; then once more.

        The pauses grow while rounds fail. Ends early if the database cannot be reached before the deadline.
        """
        backoff, delivered_at = IDLE_SECONDS, time.monotonic()
        while True:
            is_last = self._stopping.is_set()
            delivered = self.delivery.delivered
            pauses = 1.0
            try:
                self._ship_once()
                self.fault = ""
                backoff = IDLE_SECONDS
                if rows := self.delivery.delivered - delivered:
                    delivered_at = time.monotonic()
                is_quiet = time.monotonic() - delivered_at > QUIET_AFTER_SECONDS
                pauses = BUSY_PAUSES if rows >= BUSY_ROWS else QUIET_PAUSES if is_quiet else 1
            except GaveUp:
                logger.warning("the shipper ends; %d bytes stay in the journals", self.lag_bytes)
                return
            except Exception as fault:  # the border: everything is still in the journal, so it is tried again
                if self.fault != type(fault).__name__:  # once, and not at each attempt
                    _log(fault)
                self.fault = type(fault).__name__
                backoff = min(backoff * 2, LONGEST_BACKOFF)
            if is_last:
                return
            self._stopping.wait(backoff * pauses)

    def _ship_once(self) -> None:
        """Writes all new records to the database: first from the journals of living processes, then of dead ones.

        Also deletes the budget leases of each dead process: at once, and again `LATE_SECONDS` later, in case the
        database has executed the process's last statement late.

        Raises:
            GaveUp: the time for stopping is over.
            Exception: the first error with a journal, after all other journals have been written.
        """
        if self.fault:
            connections.close_all()
        self.delivery.refresh_prices()
        writers = segments.writers(self._directory)
        living = {writer: self._shipment(writer) for writer in writers if segments.is_alive(self._directory, writer)}
        faults = self._ship_living(living)
        # A dead process's journal may be long. Calls of living processes do not wait for its end: their journals are
        # read again after each part.
        for writer in (one for one in writers if one not in living):
            try:
                if ship_dead(self._directory, writer, self._shipment(writer), lambda: self._ship_living(living)):
                    self._ended[writer] = time.monotonic()
            except GaveUp:
                raise
            except Exception as fault:  # a border: see above
                faults.append(fault)
        for writer in self._shipments.keys() - {*writers}:
            del self._shipments[writer]
        for writer, ended_at in list(self._ended.items()):
            if time.monotonic() - ended_at >= LATE_SECONDS:
                if writer not in living:  # it is alive if it was taken for dead, since somebody had deleted its lock
                    end_leases(writer)
                del self._ended[writer]
        if faults:
            raise faults[0]

    def _shipment(self, writer: str) -> JournalShipment:
        return self._shipments.setdefault(writer, JournalShipment(self.delivery))

    def _ship_living(self, living: Mapping[str, JournalShipment]) -> list[Exception]:
        """Writes the new records in the journals of living processes to the database; returns the errors.

        There is one error for each journal that failed. If none failed, sets `complete_at` to the time at which this
        method was called.

        Raises:
            GaveUp: the time for stopping is over.
        """
        began = time.monotonic()
        if self.delivery.deadline is not None and began > self.delivery.deadline:
            raise GaveUp
        faults: list[Exception] = []
        for writer, shipment in living.items():
            try:
                shipment.ship_new(segments.segments_of(self._directory, writer))
            except GaveUp:
                raise
            except Exception as fault:  # a border: an error with one journal holds up no other
                faults.append(fault)
        if not faults:
            self.complete_at = began
        return faults


def _log(fault: Exception) -> None:
    """Logs the error that has ended a round of the shipper.

    An error of the operating system, such as a full disk, and an outage of the database are logged in words, any other
    error with a traceback.
    """
    words = words_of(fault) if isinstance(fault, OperationalError | InterfaceError) else getattr(fault, "strerror", "")
    if words:
        logger.error("the shipper cannot go on, and tries again: %s", words)
    else:
        logger.error("the shipper failed and tries again", exc_info=fault)


def ship_dead(
    directory: Path, writer: str, shipment: JournalShipment, between: Callable[[], object] = lambda: None
) -> bool:
    """Writes the undelivered records of a dead process's journal to the database, and deletes the journal's files.

    Also ends the process's budget leases (parts of budgets that it had reserved). Returns True if there was a journal
    to write. Returns False, and does nothing, if the process is alive, another process has locked the journal, or it
    has no files.

    Args:
        directory: the directory of all journals.
        writer: the id of the process.
        shipment: knows which part of the journal is delivered already.
        between: a function that is called after each few MiB of the journal.

    Raises:
        GaveUp: the database could not be reached before the deadline.
    """
    with segments.adopted(directory, writer) as paths:
        if paths:
            shipment.ship_rest(paths, between)
            end_leases(writer)
            for path in paths:
                path.unlink(missing_ok=True)
        return bool(paths)


def adopt_dead(directory: Path, delivery: Delivery) -> None:
    """Writes the journals that dead processes have left in `directory` to the database, and deletes these journals.

    Raises:
        GaveUp: the database could not be reached before the deadline of `delivery`.
    """
    for writer in segments.writers(directory):
        ship_dead(directory, writer, JournalShipment(delivery))


def replay(directory: Path, *, adopts: bool = True) -> Delivery:
    """Tries again to write records to the database that could not be written before; returns the `Delivery`.

    The result has the numbers of written, refused, damaged and newer records. Three kinds of record are tried:

    * The dead letters: rows that the database refused. If refused again, they stay; unreadable lines go to
      `damaged.log`.
    * The records in `newer.log`, of a newer format version. If this code cannot read it either, they stay.
    * If `adopts` is true, the journals of dead processes. It must be false while a shipper runs.

    Rows of calls that were deleted because of their age go to `pruned.log` instead.

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
    # A running shipper would take a journal that this process has locked for that of a living process.
    if adopts:
        adopt_dead(directory, delivery)
    return delivery


def _replay_newer(directory: Path, delivery: Delivery) -> None:
    """Writes to the database the rows of ended calls in `newer.log`, a file of records that older code could not read.

    Records that this code cannot read either stay in `newer.log`; damaged lines go to `damaged.log`. Begin records are
    dropped, since their calls have rows.

    Raises:
        GaveUp: the database cannot be reached.
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
