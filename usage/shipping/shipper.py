"""Ships journals into the tables: this process's journal as it grows, and those that dead writers left.

Records are read at least once, and are in the tables exactly once (`usage.shipping.rows`). A segment is deleted only
after all of it has been delivered, so no position needs to be kept on disk. A call whose writer died before the call's
end gets a row `interrupted`.
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
from usage.journal import kept_lines, segments
from usage.journal.kept_lines import NEWER, NEWER_RETRIED
from usage.journal.records import scan
from usage.journal.writer import Journal, Segment
from usage.shipping.delivery import Delivery, GaveUp
from usage.shipping.rows import interrupted

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
# A transaction costs as much as thirty rows: under load it is better to wait for more of them.
BUSY_ROWS, BUSY_PAUSES = 20, 5
ADOPT_SECONDS = 5.0
LONGEST_BACKOFF = 30.0


class Shipper:
    """A thread that writes the records of journals to the database. Each process that writes a journal has one."""

    def __init__(self, journal: Journal) -> None:
        self.delivery = Delivery(journal.directory)
        self.complete_at = time.time()  # all that was written before it is in the tables
        self.fault = ""  # what the last round failed of, unexpectedly
        self._journal = journal
        self._offsets: dict[Path, int] = {}
        self._adopted_at = 0.0
        self._awaited = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Writes the rest of the closed journal to the database, for `seconds` at most, and stops the thread.

        The next process ships what then remains. Returns False if the thread still runs, because the database does not
        answer.
        """
        self.delivery.deadline = time.monotonic() + seconds
        self._stopping.set()
        self.delivery.hurry.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("the shipper is not through; %d bytes stay in the journal", self.lag_bytes)
        return not self._thread.is_alive()

    def ship_soon(self) -> None:
        """Asks the thread to ship the journal without its usual pause.

        It is called when a call of a key with a budget has ended, because the call's row ends its reservation.
        """
        self._awaited = True

    @property
    def lag_bytes(self) -> int:
        """The number of bytes of this process's journal that are not in the database yet."""
        return sum(segment.written - self._offsets.get(segment.path, 0) for segment in list(self._journal.segments))

    def _run(self) -> None:
        """Runs in the shipper's thread: ships until the thread is stopped, then closes its database connections."""
        try:
            self._ship_until_stopped()
        finally:
            connections.close_all()

    def _ship_until_stopped(self) -> None:
        """Ships the journals in rounds until the thread is stopped, with pauses that grow while rounds fail."""
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
        """Ships this process's journal and, every `ADOPT_SECONDS`, the journals that dead processes have left."""
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
        """Ships this process's own calls between two parts of a dead process's journal, because that journal may be
        long.

        Raises:
            _Stopping: this process ends, and does not ship the rest of the dead process's journal.
        """
        if self._stopping.is_set():
            raise _Stopping
        self._ship_own()

    def _ship_own(self) -> None:
        """Writes the records that this process's journal has so far to the database."""
        began = time.time()
        for segment in list(self._journal.segments):
            self._ship(segment)
        self.complete_at = began

    def _ship(self, segment: Segment) -> None:
        """Writes the new records of one journal file to the database; deletes the file if it is closed."""
        offset = self._offsets.get(segment.path, 0)
        closed = segment.closed  # read before the size: what is closed does not grow
        size = segment.written  # read once: what comes meanwhile is for the next round, with more of its kind
        while offset < size:
            found = segments.read_from(segment.path, offset, size)
            ends = [record for record in found.records if record["kind"] == "end"]
            guesses = self.delivery.set_aside(found.damaged) + self.delivery.set_aside_newer(found.newer)
            self.delivery.deliver(ends + guesses)
            offset = self._offsets[segment.path] = offset + found.size
        if closed:
            self._journal.shipped(segment)
            self._offsets.pop(segment.path, None)


class _Stopping(Exception):
    """Error: this process ends, so that the journals of dead processes are left to the next one."""


def adopt_dead(
    directory: Path, delivery: Delivery, besides: str = "", between: Callable[[], None] = lambda: None
) -> None:
    """Writes the journals of dead processes in `directory` to the database, and deletes them.

    The journal of the process with the id `besides` is left alone. `between` is called after each part of a journal.
    """
    for writer in segments.writers(directory):
        if writer == besides:
            continue
        with segments.adopted(directory, writer) as paths:
            if paths:
                delivery.find_pruned()
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
    """Writes dead letters, kept records of a newer version, and the journals of dead processes to the database.

    A row that the database refuses again becomes a dead letter again; a record whose version is still unknown stays in
    `newer.log`; a dead letter that cannot be read goes to `damaged.log`. Returns the delivery, which has counted these.

    Raises:
        GaveUp: the database is away.
    """
    delivery = Delivery(directory, deadline=time.monotonic())
    retried = kept_lines.begin_retry(directory)
    if retried.exists():
        delivery.find_pruned()
        torn = []
        for line in retried.read_bytes().splitlines():
            letter = kept_lines.read_letter(line)
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
    """Delivers the records in `newer.log` whose version this code can read; appends the rest to `newer.log` again."""
    retried = kept_lines.begin_retry(directory, NEWER, NEWER_RETRIED)
    if not retried.exists():
        return
    delivery.find_pruned()
    found = scan(retried.read_bytes())
    delivery.set_aside(found.damaged)
    delivery.set_aside_newer(found.newer)
    delivery.deliver(delivery.without_pruned([record for record in found.records if record["kind"] == "end"]))
    retried.unlink()
