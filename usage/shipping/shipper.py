"""Owns the shipping of journals: this process's as it grows, and those of dead writers.

At least once from the journal, exactly once in the tables (`usage.shipping.rows`). A segment is deleted
only after everything in it has been delivered; there is no cursor file to be wrong. A call whose
writer died before its end becomes a row `interrupted`.
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
    """One thread per process."""

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
        """Ships what the closed journal still has, for `seconds` at most; the rest is the next process's.

        Returns whether the thread has ended: a database that does not answer may still hold it.
        """
        self.delivery.deadline = time.monotonic() + seconds
        self._stopping.set()
        self.delivery.hurry.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("the shipper is not through; %d bytes stay in the journal", self.lag_bytes)
        return not self._thread.is_alive()

    def ship_soon(self) -> None:
        """Somebody waits for the next round: a key with a budget, whose hold ends with it."""
        self._awaited = True

    @property
    def lag_bytes(self) -> int:
        """How much of this process's journal is not in the tables yet."""
        return sum(segment.written - self._offsets.get(segment.path, 0) for segment in list(self._journal.segments))

    def _run(self) -> None:
        try:
            self._ship_until_stopped()
        finally:
            connections.close_all()

    def _ship_until_stopped(self) -> None:
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
        """The dead left much, maybe: neither this process's own calls nor its stop wait for all of that."""
        if self._stopping.is_set():
            raise _Stopping
        self._ship_own()

    def _ship_own(self) -> None:
        began = time.time()
        for segment in list(self._journal.segments):
            self._ship(segment)
        self.complete_at = began

    def _ship(self, segment: Segment) -> None:
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
    """What the dead left stays where it is, for the next process."""


def adopt_dead(
    directory: Path, delivery: Delivery, besides: str = "", between: Callable[[], None] = lambda: None
) -> None:
    """Ships and deletes what dead writers left in `directory`; calls `between` after each part of it."""
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
    """Ships what dead writers have left, and tries kept lines again: dead letters, and records of newer versions.

    Those that are still refused, or still not known, are kept again. A dead letter that cannot be read is set aside.

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
    """Delivers the kept records whose version this code knows by now; keeps the others again."""
    retried = kept_lines.begin_retry(directory, NEWER, NEWER_RETRIED)
    if not retried.exists():
        return
    delivery.find_pruned()
    found = scan(retried.read_bytes())
    delivery.set_aside(found.damaged)
    delivery.set_aside_newer(found.newer)
    delivery.deliver(delivery.without_pruned([record for record in found.records if record["kind"] == "end"]))
    retried.unlink()
