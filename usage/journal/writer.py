"""Writes a process's journal: append-only files (segments) in one directory, each written by one process.

Invariants: a record is one `os.write`, written whole or not at all. `begin` fails with `JournalFull` while less disk
space than the reserve is free. `end` never fails: a line that the disk refuses is kept in memory and tried again
(`usage.journal.full_disk`). A new segment gets its name when it has the begin records of all open calls. From then on
the segment before it is closed, and the shipper may delete that one. The writer holds a lock on `<writer>.lock` for its
life, so whoever gets that lock knows that the writer is dead (`usage.journal.segments`). Should somebody delete or move
the lock or the segment meanwhile, they are made again within a second, with all of the segment's records.

Over 300 lines, since one lock guards all of this state.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from uuid_utils import uuid7

from usage.call_record import RECORD_VERSION, CallRecord
from usage.journal.full_disk import FullDisk, JournalFull
from usage.journal.lock_files import is_at, make_lock_file
from usage.journal.records import frame

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
SEGMENT_SECONDS = 60.0
SYNC_SECONDS = 0.2
ROOM_CHECK_SECONDS, IDLE_SECONDS = 1.0, 1.0  # the thread sleeps no longer than the second time
Sync = Literal["interval", "always", "off"]


class Journal:
    """The journal of one process: the files to which its calls are written before they are copied to the database.

    Any thread may call the methods.
    """

    def __init__(self, directory: Path, *, reserve_bytes: int, sync: Sync = "interval") -> None:
        self.directory = directory
        self.writer = str(uuid7())
        self._full_disk = FullDisk(directory, reserve_bytes, self._write)
        self._sync: Sync = sync
        self._lock = threading.Lock()
        self._open_begins: dict[str, bytes] = {}
        self._lock_fd = -1
        self._fd = -1  # of the current segment
        self._written = 0  # its bytes, all of them whole records
        self._is_torn = False  # whether a part of a record follows them, which the disk has not let be cut off
        self._retired: list[int] = []  # descriptors of closed segments, to be synced
        self._next_number = 1
        self._opened_at = 0.0
        self._carried = 0  # bytes at the start of the current segment that are copies of begin records
        self._dirty = False
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        # Set when something was written that is not synced, and when that should be synced at once.
        self._has_work, self._sync_wanted = threading.Event(), threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run_thread, name="journal", daemon=True)

    @property
    def full(self) -> bool:
        """True while the disk is so full that new calls are refused."""
        return self._full_disk.is_full

    def open(self) -> None:
        """Creates and locks this process's lock file, and starts the first journal file and the journal's thread.

        Raises:
            OSError: the directory cannot be written.
        """
        lock = self._make_lock()
        try:
            with self._lock:
                self._open_segment()
                self._check_room()
        except OSError:
            lock.unlink()
            os.close(self._lock_fd)
            raise
        self._thread.start()

    def begin(self, request_id: str, record: CallRecord) -> None:
        """Writes the begin record of a call to the journal, so that the ledger will have a row for the call.

        Raises:
            JournalFull: the disk has refused a record, or has less free space than it must have. Afterwards all calls
                are refused, until a check finds enough space; the disk is checked every second.
        """
        line = frame({"version": RECORD_VERSION, "kind": "begin", "request_id": request_id, **record})
        with self._lock:
            self._full_disk.check_early()
            if self._full_disk.is_full or not self._write(line):
                self._full_disk.is_full = True
                raise JournalFull
            self._open_begins[request_id] = line
            self._rotate_if_large()

    def end(self, request_id: str, record: CallRecord) -> None:
        """Writes the row of an ended call to the journal; if the disk refuses the row, keeps it in memory.

        While the disk is full, the row of a call without a begin record, which was refused, is dropped and counted.
        """
        line = frame({"version": RECORD_VERSION, "kind": "end", "request_id": request_id, **record})
        with self._lock:
            was_refused = request_id not in self._open_begins and not record.get("by_gateway")
            if was_refused and self._full_disk.is_full:
                self._full_disk.drop()
                return
            if self._full_disk.has_kept or not self._write(line):
                # Until it is written, new segments get a copy of the begin record.
                self._full_disk.keep(request_id, line)
                return
            self._open_begins.pop(request_id, None)
            self._rotate_if_large()

    async def wait_until_durable(self) -> None:
        """Waits until all records written before are synced to the disk, if the journal's `sync` mode is `always`.

        In other `sync` modes it returns at once. An error of the disk is logged, and ends the wait.
        """
        if self._sync != "always" or self._stopping:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiters.append((loop, waiter))
        self._wake()
        await waiter

    def rotate(self) -> None:
        """Starts a new journal file; if the disk refuses it, logs an error and goes on with the present file."""
        with self._lock:
            self._rotate()

    def close(self) -> None:
        """Writes the end records that wait in memory, syncs and closes the journal, and releases its lock.

        Records that the disk still refuses are lost, and logged. Afterwards the shipper of another process can deliver
        the journal.
        """
        self._stopping = True
        self._wake()
        self._thread.join()
        with self._lock:
            with suppress(OSError):
                self._restore_deleted()
            self._forget_begins(self._full_disk.write_kept())
            self._full_disk.log_lost()
            self._retired.append(self._fd)
            self._fd = -1
        self._sync_now()
        os.close(self._lock_fd)

    def _make_lock(self) -> Path:
        """Creates and locks the lock file of this process, which shows that the process is alive; returns its path.

        Also creates the journal's directory if it is missing.

        Raises:
            OSError: the directory cannot be written.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self.directory / f"{self.writer}.lock"
        self._lock_fd = make_lock_file(lock)
        return lock

    # Below, the caller holds the lock.

    def _write(self, line: bytes) -> bool:
        """Appends a line to the current journal file; returns False if the disk refuses the line."""
        try:
            self._cut_off_torn()
            count = os.write(self._fd, line)
            if count != len(line):  # a full disk writes short without an error
                self._is_torn = True
                self._cut_off_torn()
                return False
        except OSError as error:
            logger.error("the journal cannot be written: %s", error.strerror)
            return False
        self._written += count
        self._full_disk.unchecked_bytes += count
        if not self._dirty:
            self._dirty = True
            self._has_work.set()
        return True

    def _cut_off_torn(self) -> None:
        """Cuts off the part of a record that a short write has left at the end of the current journal file, if any.

        Raises:
            OSError: the disk refuses that, as some do while they are full; then no other record may follow.
        """
        if self._is_torn:
            os.ftruncate(self._fd, self._written)
            self._is_torn = False

    def _rotate_if_large(self) -> None:
        if self._written - self._carried >= SEGMENT_BYTES:
            self._rotate()

    def _rotate(self) -> None:
        try:
            self._restore_deleted()  # before a file is closed that has the only record of a call's end
            old = self._fd
            self._open_segment()
        except OSError as error:
            logger.error("the journal cannot start a new segment, and goes on with the old one: %s", error.strerror)
            self._carried, self._opened_at = self._written, time.monotonic()  # when to try again
            return
        self._retired.append(old)  # synced and closed by the journal's thread, because here a call would wait for it

    def _open_segment(self, carried: bytes | None = None) -> None:
        """Creates the next journal file, which begins with `carried`, by default the begin records of all open calls.

        Raises:
            OSError: the disk refuses the file; the current one stays in use.
        """
        self._cut_off_torn()
        if carried is None:  # the file before may be deleted as soon as the new one has its name
            carried = b"".join(self._open_begins.values())
        name = f"{self.writer}.{self._next_number:08d}"
        unnamed = self.directory / f".{name}.new"
        fd = os.open(unnamed, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(fd, carried) != len(carried):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            unnamed.rename(self.directory / f"{name}.journal")
        except OSError:
            os.close(fd)
            unnamed.unlink(missing_ok=True)
            raise
        self._fd = fd
        self._carried = self._written = len(carried)
        self._full_disk.unchecked_bytes += len(carried)
        self._dirty = True
        self._has_work.set()
        self._next_number += 1
        self._opened_at = time.monotonic()

    def _check_room(self) -> None:
        """Writes the end records that wait in memory, then sets whether the disk has room for new calls (`full`).

        Before, restores deleted files; while that is impossible, new calls are refused.
        """
        try:
            self._restore_deleted()
        except OSError as error:
            if not self._full_disk.is_full:
                logger.error("the journal's files were deleted, and cannot be made again: %s", error.strerror)
            self._full_disk.is_full = True
        else:
            self._forget_begins(self._full_disk.check())

    def _restore_deleted(self) -> None:
        """Makes the lock file and the current journal file again if somebody has deleted or moved them; logs a warning.

        The new journal file has all records of the old one, of which some may be in the database already.

        Raises:
            OSError: the disk refuses a file.
        """
        # Without its lock, the shipper takes this process for dead, and deletes its files itself.
        if not is_at(self.directory / f"{self.writer}.lock", self._lock_fd):
            old = self._lock_fd
            self._make_lock()
            os.close(old)
            logger.warning("the lock of this process's journal was deleted, and is made again")
        if not is_at(self.directory / f"{self.writer}.{self._next_number - 1:08d}.journal", self._fd):
            old = self._fd
            self._open_segment(os.pread(old, self._written, 0))
            self._retired.append(old)
            logger.warning("this process's journal was deleted, and its records are written again")

    def _forget_begins(self, request_ids: Iterable[str]) -> None:
        """Forgets the begin records of ended calls, so that they are no longer copied to each new journal file."""
        for request_id in request_ids:
            self._open_begins.pop(request_id, None)

    # The journal's own thread.

    def _run_thread(self) -> None:
        """Runs the journal's thread until `close` is called.

        The thread syncs records within 0.2 seconds after they were written. Every second, it checks the free disk
        space. If the current file has records and is a minute old, it starts a new file.
        """
        check_at = time.monotonic() + ROOM_CHECK_SECONDS  # `open` has checked it
        while not self._stopping:
            self._wait_for_work(check_at)
            try:
                try:  # before the sync, which may take long
                    if (now := time.monotonic()) >= check_at:
                        check_at = now + ROOM_CHECK_SECONDS
                        with self._lock:
                            self._check_room()
                            if self._written and now - self._opened_at >= SEGMENT_SECONDS:
                                self._rotate()
                finally:  # calls wait for it, also on a disk whose free space cannot be read
                    self._sync_now()
            except Exception:  # the border: without this thread nothing is synced, and `full` is never reset
                logger.exception("the journal's thread failed and goes on")
        self._sync_now()

    def _wait_for_work(self, check_at: float) -> None:
        """Waits until there are records to sync, at most until `check_at`, in seconds of `time.monotonic()`."""
        if self._has_work.wait(min(IDLE_SECONDS, max(0.0, check_at - time.monotonic()))):
            self._has_work.clear()
            self._sync_wanted.wait(min(SYNC_SECONDS, max(0.0, check_at - time.monotonic())))
            self._sync_wanted.clear()

    def _wake(self) -> None:
        self._sync_wanted.set()
        self._has_work.set()

    def _sync_now(self) -> None:
        """Syncs the records that were written to the journal since the last sync, unless the `sync` mode is `off`.

        Closes the journal's earlier files. Wakes the tasks that wait in `wait_until_durable`.
        """
        with self._lock:
            waiters, self._waiters = self._waiters, []
            current = self._fd if self._dirty and self._sync != "off" else -1
            self._dirty = False
            retired, self._retired = self._retired, []
        # Without the lock: a slow disk must not delay the writes of calls.
        for fd in retired:
            if self._sync != "off":
                _sync_file(fd)
            os.close(fd)
        if current >= 0:  # still open: nobody closes a segment but this function, once it is retired
            _sync_file(current)
        for loop, waiter in waiters:
            loop.call_soon_threadsafe(_release, waiter)


def _sync_file(fd: int) -> None:
    """Syncs a journal file to the disk; logs an error instead of raising it, since no call may fail for it."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        logger.error("the journal cannot be synced: %s", error.strerror)


def _release(waiter: asyncio.Future[None]) -> None:
    """Wakes the task that waits for the future `waiter`, unless that task was cancelled."""
    if not waiter.done():
        waiter.set_result(None)
