"""Handles a full disk for the journal: new calls are refused, and ends of calls in flight are kept in memory.

The disk counts as full if it has less free space than the reserve (`JOURNAL_RESERVE_BYTES`) or no room for further
files, or if it has refused a record for whatever reason: no space, a quota, a disk that has become read-only. A call
that has begun must get its row, so its end is kept and tried again each second. A call that has not begun is refused.
Its row is dropped and only counted, since there may be many such calls, and they cost nothing.

The free space is checked every second. A slow disk delays that check, but not the writes. So a call that begins checks
it, too, when its writer has written a 64th of the reserve since the last check. Between two checks, 60 writers together
therefore fill less than the default reserve, apart from the ends of calls in flight, for which the reserve is.

In other places a full disk stops no call: `proxyapi.object_owners` then keeps the owners of new objects in memory,
until the calls' rows are stored.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

LEAST_FILES = 8  # that can still be made: a segment, a worker's report, links for the owners of objects
SHARES_OF_RESERVE = 64  # one of which is written between two checks, or
LEAST_SHARE_BYTES = 64 * 1024
MOST_NAMED = 20  # request ids in one line of the log


class JournalFull(Exception):
    """Error: the disk is too full to guarantee that a new call will be in the ledger, so the call must be refused."""


class FullDisk:
    """The state of the disk of a journal: whether it is full, and the end records of calls that it has refused.

    The caller of any method must hold the journal's lock.

    * `is_full`: True while new calls must be refused.
    * `unchecked_bytes`: how many bytes the journal has written since the free space was checked.

    The constructor gets the journal's `directory`; how many bytes must stay free on its disk; and the function `write`,
    which appends a line to the journal, and returns False if the disk refuses the line.
    """

    def __init__(self, directory: Path, reserve_bytes: int, write: Callable[[bytes], bool]) -> None:
        self.is_full = False
        self.unchecked_bytes = 0
        self._share_bytes = max(reserve_bytes // SHARES_OF_RESERVE, LEAST_SHARE_BYTES)
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._write = write
        self._kept: dict[str, bytes] = {}  # end records that the disk did not take, by request id
        self._dropped = 0  # rows of refused calls that were not written since the disk became full

    @property
    def has_kept(self) -> bool:
        """True while end records of calls wait in memory, because the disk has refused them."""
        # Further end records must then wait, too, so that all are written in their order.
        return bool(self._kept)

    def keep(self, request_id: str, line: bytes) -> None:
        """Keeps the end record `line` of a call in memory, because the disk has refused the record; sets `is_full`."""
        self.is_full = True
        self._kept[request_id] = line

    def drop(self) -> None:
        """Counts a refused call whose row is not written, because the disk is full."""
        self._dropped += 1

    def write_kept(self) -> Iterator[str]:
        """Writes the end records that wait in memory to the journal; yields the request id of each written record.

        Stops when the disk refuses a record. A written record is removed from memory before its id is yielded.
        """
        for request_id, line in list(self._kept.items()):
            if not self._write(line):
                return
            del self._kept[request_id]
            yield request_id

    def check_early(self) -> None:
        """Checks the free space before a call begins, if the journal has written enough bytes since the last check.

        Enough is a 64th of the reserve, but at least 64 KiB. Nothing is checked while the disk counts as full. An error
        of the check is logged, not raised.
        """
        if self.is_full or self.unchecked_bytes < self._share_bytes:
            return
        try:
            for _ in self.check():  # yields nothing: records wait in memory only while the disk counts as full
                pass
        except OSError as error:  # a disk that cannot be asked may still take records
            logger.error("the free space of the journal's disk is unknown: %s", error.strerror)

    def check(self) -> Iterator[str]:
        """Checks the free space of the disk, writes the end records that wait in memory, and then sets `is_full`.

        Yields the request id of each record that was written, and must be read to its end. `is_full` becomes True if
        the disk lacks space or room for further files, or has refused a record; otherwise it becomes False.

        Raises:
            OSError: the free space cannot be read.
        """
        self.unchecked_bytes = 0
        disk = os.statvfs(self._directory)
        lacks_files = disk.f_files > 0 and disk.f_favail < LEAST_FILES  # some file systems count no files
        lacks_space = disk.f_bavail * disk.f_frsize < self._reserve_bytes or lacks_files
        if lacks_space and not self.is_full:
            lacking = "has no room for further files" if lacks_files else "is full"
            logger.error("the disk of %s %s: new calls are refused", self._directory, lacking)
        yield from self.write_kept()
        self.is_full = lacks_space or self.has_kept
        if not self.is_full:
            self._log_dropped()

    def log_lost(self) -> None:
        """Logs how many calls lose their end records when the journal closes, with some of their ids.

        Also logs how many refused calls got no row because the disk was full.
        """
        self._log_dropped()
        if self._kept:
            logger.error(
                "the disk has not taken the ends of %d calls, which will be `interrupted` in the ledger: %s",
                len(self._kept),
                ", ".join(list(self._kept)[:MOST_NAMED]),
            )

    def _log_dropped(self) -> None:
        """Logs how many refused calls got no row because the disk was full, and resets this number to 0."""
        if self._dropped:
            logger.warning("%d refused calls are not in the ledger, because the disk was full", self._dropped)
            self._dropped = 0
