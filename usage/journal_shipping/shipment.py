"""Copies one process's journal into the tables ("ships" it), file by file, while the process lives and afterwards.

A file (segment) is deleted only after all of it has been delivered, so no position needs to be stored on the disk:
after a crash of the shipper, the remaining files are shipped again, and each record is still in the tables exactly once
(`usage.journal_shipping.rows`). A call whose process died before the call's end gets a row with the outcome
`interrupted`.

The remaining files are also shipped again when PostgreSQL was restarted, or another server has taken over: it may lack
the rows that were written last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from usage.call_record import CallRecord
from usage.journal import segments
from usage.journal.records import Scan
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.rows import interrupted

logger = logging.getLogger(__name__)


class JournalShipment:
    """The progress of copying the journal of one process into the database.

    It knows how far each file is delivered, and which calls are open. Delivered means: written to the database, or set
    aside in a file.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._offsets: dict[Path, int] = {}
        self._begun: dict[str, CallRecord] = {}  # begin records without an end, by request id
        self._server_changes = 0  # those that the offsets allow for

    @property
    def shipped_bytes(self) -> Mapping[str, int]:
        """The number of delivered bytes of each journal file, by file name.

        Delivered means: written to the database, or set aside in another file. A file that was deleted after its
        delivery is absent. Any thread may read this.
        """
        return {path.name: offset for path, offset in self._offsets.copy().items()}

    def ship_new(self, paths: Sequence[Path]) -> None:
        """Writes the new records in a living process's journal to the database, and deletes finished files.

        `paths` are all files of the journal, the oldest first. All but the last are finished. Damaged lines, and lines
        of a newer version, are appended to files of their own; if such a line still shows a request id, the call gets a
        row with the outcome `interrupted`.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        for path, successor in zip(paths, [*paths[1:], None], strict=True):
            self._ship_file(path, is_closed=successor is not None)
            if successor is not None:
                _sync(successor)  # it has the only other copy of the begin records of calls in flight
                path.unlink()
                self._offsets.pop(path, None)

    def _ship_file(self, path: Path, *, is_closed: bool) -> None:
        """Writes the new records in one file of a living process's journal to the database, as `ship_new` says.

        `is_closed` says that the file does not grow any more: then the caller deletes it next.
        """
        # What the process adds meanwhile is left for the next run, whose batches it helps to fill.
        size = path.stat().st_size
        while True:
            if is_closed or self._offsets.get(path, 0) < size:  # an idle server asks the database nothing
                self._start_over_if_rows_may_lack()
            if (offset := self._offsets.get(path, 0)) >= size:
                return
            found = segments.read_from(path, offset, size if is_closed else None)
            if not found.size:  # a record is being written
                return
            guesses = self._set_aside(found)
            self._delivery.deliver([*_ends(found), *guesses])
            self._advance(path, found)

    def ship_rest(self, paths: Sequence[Path], between: Callable[[], object]) -> None:
        """Writes the undelivered part of a dead process's journal to the database; the caller deletes the files.

        * A call without an end record gets a row with the outcome `interrupted`.
        * A call whose row was in the database before, and was deleted for its age, gets no row again.
        * Damaged lines, and lines of a newer version, are appended to files of their own.

        Args:
            paths: all files of the journal, the oldest first.
            between: a function that is called after each few MiB of the journal.

        Raises:
            GaveUp: the database could not be reached before the deadline.
        """
        self._delivery.load_pruned()
        self._start_over_if_rows_may_lack()
        for path in paths:
            while (found := segments.read_from(path, self._offsets.get(path, 0))).size:
                for guess in self._set_aside(found):
                    self._begun.setdefault(guess["request_id"], guess)
                self._delivery.deliver(self._delivery.without_pruned(_ends(found)))
                self._advance(path, found)
                # Others need not wait for the end of a long journal.
                between()
        if self._begun:
            logger.warning("%d calls may have been interrupted by the end of their process", len(self._begun))
        rows = [interrupted(record) for record in self._begun.values()]
        self._delivery.deliver(self._delivery.without_pruned(rows))
        if self._start_over_if_rows_may_lack():
            self.ship_rest(paths, between)

    def _start_over_if_rows_may_lack(self) -> bool:
        """Forgets how far each file is delivered if PostgreSQL has restarted or is another server; returns whether so.

        Such a server may lack the rows that were written last: after a failover, or after a crash without `fsync`.
        """
        changes = self._delivery.count_server_changes()
        if changes == self._server_changes:
            return False
        self._server_changes = changes
        self._offsets.clear()
        return True

    def _set_aside(self, found: Scan) -> list[CallRecord]:
        """Appends damaged lines of a journal to the file `damaged.log`, and lines of a newer version to `newer.log`.

        Both are taken from `found`, a part of the journal that was read. Returns a row with the outcome `interrupted`
        for each call whose request id can be read in these lines. It has what the call's begin record says, if that is
        known: the key, and the usage to suppose.
        """
        guesses = self._delivery.set_aside(found.damaged) + self._delivery.set_aside_newer(found.newer)
        if not guesses:
            return guesses
        begun = self._begun | {record["request_id"]: record for record in found.records if record["kind"] == "begin"}
        known = [begun.get(guess["request_id"]) for guess in guesses]
        return [guess if record is None else interrupted(record) for guess, record in zip(guesses, known, strict=True)]

    def _advance(self, path: Path, found: Scan) -> None:
        """Notes that the part `found` of a journal file is delivered, and which calls begin or end in this part."""
        for record in found.records:
            if record["kind"] == "begin":
                # Replaces facts that were guessed from a damaged record, which are fewer.
                self._begun[record["request_id"]] = record
        for record in _ends(found):
            self._begun.pop(record["request_id"], None)
        self._offsets[path] = self._offsets.get(path, 0) + found.size


def _ends(found: Scan) -> list[CallRecord]:
    return [record for record in found.records if record["kind"] == "end"]


def _sync(path: Path) -> None:
    """Syncs a file to the disk, so that its content survives a power cut."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
