"""Finds and reads the segments of journals: this process's own, and those that dead writers left.

A writer is dead when its `<writer>.lock` can be locked. Only the process that holds that lock may ship and delete the
writer's segments.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usage.journal.records import Scan, scan

READ_BYTES = 4 * 1024 * 1024


def read_from(path: Path, offset: int, limit: int | None = None) -> Scan:
    """Reads whole records from a journal file, from byte `offset` on, and returns as many as are in the next few MiB.

    `limit` is the end of what is known to have been written: bytes from that position on are not read. If there is no
    whole record before `limit`, the disk has lost what was written, and the bytes before `limit` are returned as
    damaged.
    """
    size = READ_BYTES
    while True:
        with path.open("rb") as segment:
            segment.seek(offset)
            data = segment.read(size if limit is None else min(size, limit - offset))
        found = scan(data)
        if found.size:
            return found
        if len(data) < size:
            # Without a limit, the last record is unfinished; with one, the disk has lost what was written.
            return found if limit is None else Scan([], [data], limit - offset)
        size *= 2  # the record is longer than what was read


def read_all(path: Path) -> Iterator[Scan]:
    """Reads a whole journal file and yields its records, some MiB at a time.

    An unfinished line at the end of the file is left out.
    """
    offset = 0
    while (found := read_from(path, offset)).size:
        yield found
        offset += found.size


def writers(directory: Path) -> list[str]:
    """Returns the ids of all processes that have a lock file or a journal file in `directory`, the oldest first.

    The ids are UUIDv7, whose order is that of their time.
    """
    return sorted({path.name.partition(".")[0] for kind in ("lock", "journal") for path in directory.glob(f"*.{kind}")})


def segments_of(directory: Path, writer: str) -> list[Path]:
    """Returns the paths of all journal files of the process with the id `writer`, the oldest first."""
    return sorted(directory.glob(f"{writer}.*.journal"))


@contextmanager
def adopted(directory: Path, writer: str) -> Iterator[list[Path]]:
    """Locks a dead process's journal until the end of the `with` block, and yields the paths of the journal's files.

    Yields an empty list if the process is still alive. Afterwards deletes the lock file if all journal files are gone.
    """
    lock = directory / f"{writer}.lock"
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield []
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alive = os.fstat(fd).st_nlink == 0  # deleted: another process has done all that there was to do
    except BlockingIOError:
        alive = True
    try:
        yield [] if alive else segments_of(directory, writer)
        if not alive and not segments_of(directory, writer):
            lock.unlink(missing_ok=True)
    finally:
        os.close(fd)
