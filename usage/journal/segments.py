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
    """Reads some MiB of whole records from `offset` on, at most up to byte `limit`, at which a record must end."""
    size = READ_BYTES
    while True:
        with path.open("rb") as segment:
            segment.seek(offset)
            data = segment.read(size if limit is None else min(size, limit - offset))
        found = scan(data)
        if found.size:
            return found
        if len(data) < size:
            # Without a limit a torn tail; with one, the disk has not kept what was written.
            return found if limit is None else Scan([], [data], limit - offset)
        size *= 2  # a record longer than what was read


def read_all(path: Path) -> Iterator[Scan]:
    """Reads a whole segment, piece by piece. An unfinished line at its end is ignored."""
    offset = 0
    while (found := read_from(path, offset)).size:
        yield found
        offset += found.size


def writers(directory: Path) -> list[str]:
    """Returns the ids of all writers with a lock or a segment, the oldest first (they are UUIDv7)."""
    return sorted({path.name.partition(".")[0] for kind in ("lock", "journal") for path in directory.glob(f"*.{kind}")})


def segments_of(directory: Path, writer: str) -> list[Path]:
    """Returns the segments of a writer, the oldest first."""
    return sorted(directory.glob(f"{writer}.*.journal"))


@contextmanager
def adopted(directory: Path, writer: str) -> Iterator[list[Path]]:
    """Locks the journal of a dead writer for the block; yields its segments, none while the writer lives."""
    lock = directory / f"{writer}.lock"
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield []
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alive = os.fstat(fd).st_nlink == 0  # somebody else has finished with it in the meantime
    except BlockingIOError:
        alive = True
    try:
        yield [] if alive else segments_of(directory, writer)
        if not alive and not segments_of(directory, writer):
            lock.unlink(missing_ok=True)
    finally:
        os.close(fd)
