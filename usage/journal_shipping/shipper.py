"""Ships the journals of all writers of this host into the tables: as they grow, and what the dead have left.

Records are read at least once, and are in the tables exactly once (`usage.journal_shipping.rows`). One thread does it,
in one process of the host (`chatproxy.processes.shipper_process`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from django.db import connections

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
LONGEST_BACKOFF = 5.0  # after errors with one journal; the others wait as long
# After the death of a writer, the database may still execute a statement of its that gets a lease.
LATE_SECONDS = 5.0


class Shipper:
    """The thread that writes the records in all journals of a directory to the database.

    `complete_at` is a moment of `time.monotonic()`: all records that living processes wrote before it are in the
    database. Its first value, an argument of the constructor, comes from an earlier shipper; by default it is the
    present.
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
        """Writes the rest of the journals to the database and stops the thread, within `seconds` at most.

        Returns True if the thread has ended in time. Returns False if it has not, because the database does not answer.
        The next shipper then writes what is left in the journals.
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
        """The number of bytes of each journal file that are in the database, by the file's name. Any thread may ask."""
        shipments = list(self._shipments.values())
        return {name: size for shipment in shipments for name, size in shipment.shipped_bytes.items()}

    @property
    def lag_bytes(self) -> int:
        """The number of bytes, in all journals together, that have not been written to the database yet."""
        return segments.waiting_bytes(self._directory, self.shipped_bytes)

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

        The last round begins after the stop. The pauses between rounds grow while rounds fail.
        """
        backoff = IDLE_SECONDS
        while True:
            is_last = self._stopping.is_set()
            delivered = self.delivery.delivered
            pauses = 1
            try:
                self._ship_once()
                self.fault = ""
                backoff = IDLE_SECONDS
                pauses = BUSY_PAUSES if self.delivery.delivered - delivered >= BUSY_ROWS else 1
            except GaveUp:
                logger.warning("the shipper ends; %d bytes stay in the journals", self.lag_bytes)
                return
            except Exception as fault:  # the border: everything is still in the journal, so it is tried again
                logger.exception("the shipper failed and tries again")
                self.fault = type(fault).__name__
                backoff = min(backoff * 2, LONGEST_BACKOFF)
            if is_last:
                return
            self._stopping.wait(backoff * pauses)

    def _ship_once(self) -> None:
        """Writes all new records in the journals to the database.

        The journals of living processes come before those of dead ones. The journal of a dead process may be long, and
        the calls of the living ones should not wait for its end. So the journals of the living are looked at again
        after each part of a dead one's. An error with one journal does not keep the others from being shipped.

        Raises:
            GaveUp: the time to stop is over.
            Exception: the first error with a journal, after all others have been shipped.
        """
        if self.fault:
            connections.close_all()
        self.delivery.refresh_prices()
        writers = segments.writers(self._directory)
        living = {writer: self._shipment(writer) for writer in writers if segments.is_alive(self._directory, writer)}
        faults = self._ship_living(living)
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
                end_leases(writer)
                del self._ended[writer]
        if faults:
            raise faults[0]

    def _shipment(self, writer: str) -> JournalShipment:
        return self._shipments.setdefault(writer, JournalShipment(self.delivery))

    def _ship_living(self, living: Mapping[str, JournalShipment]) -> list[Exception]:
        """Writes to the database all records that are now in the journals of living processes.

        Returns one error for each journal that could not be read or written to the end; its rest is tried again in the
        next round.

        Raises:
            GaveUp: the time to stop is over.
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


def ship_dead(
    directory: Path, writer: str, shipment: JournalShipment, between: Callable[[], object] = lambda: None
) -> bool:
    """Writes the rest of a dead process's journal to the database, ends its budget leases, and deletes the files.

    Does nothing if the process is still alive. Returns whether it was dead. `shipment` knows how much of the journal
    has been delivered before. The function `between` is called after each part of the journal.
    """
    with segments.adopted(directory, writer) as paths:
        if paths:
            shipment.ship_rest(paths, between)
            end_leases(writer)
            for path in paths:
                path.unlink(missing_ok=True)
        return bool(paths)


def adopt_dead(directory: Path, delivery: Delivery) -> None:
    """Writes the journals that dead processes have left in `directory` to the database, and deletes them."""
    for writer in segments.writers(directory):
        ship_dead(directory, writer, JournalShipment(delivery))


def replay(directory: Path, *, adopts: bool = True) -> Delivery:
    """Tries again to write to the database what could not be written before; the command `ledger replay` calls it.

    Three kinds of records are tried:

    * Dead letters, the rows that the database has refused. A row that is refused again becomes a dead letter again. A
      dead letter that cannot be read goes to `damaged.log`.
    * Records of a newer version of chatproxy. A record whose version is still unknown stays in `newer.log`.
    * The journals of dead processes, if `adopts` is true. `adopts` must be false while the shipper runs, which brings
      in these journals itself. It would think that a journal which this process has locked is that of a living process.

    Returns the `Delivery` that has done this. Its counters say how many rows were written or refused, and how many
    records were damaged or of a newer version.

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
    if adopts:
        adopt_dead(directory, delivery)
    return delivery


def _replay_newer(directory: Path, delivery: Delivery) -> None:
    """Writes to the database those records of the file `newer.log` whose format version this code can read.

    Records of a version that this code cannot read are appended to `newer.log` again.
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
