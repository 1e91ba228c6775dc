"""Finds and reads the files (segments) of journals, both of living writers (processes) and of dead ones.

A writer is dead if its `<writer>.lock` can be locked. All segments of a living writer except the last one are closed:
they do not grow any more. All segments of a dead writer are closed, and whoever holds its lock may delete them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from usage.journal.lock_files import is_locked
from usage.journal.records import Scan, scan

READ_BYTES = 8 * 1024 * 1024  # with bodies kept, about as many calls as are delivered at once


def read_from(path: Path, offset: int, limit: int | None = None) -> Scan:
    """Reads the next few MiB of a journal file, from byte `offset` on; returns its records as a `Scan`.

    More is read only if a single record is longer than that.

    Args:
        path: the journal file.
        offset: the position of the first byte to read.
        limit: the file's length in bytes, for a file that no longer grows. Bytes at its end that are no whole line
            count as a damaged line. If it is None, they are left out, because the line is still being written.
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
    """Reads a whole journal file, some MiB at a time; yields the records and damaged lines of each piece as a `Scan`.

    An unfinished last line is left out.
    """
    offset = 0
    while (found := read_from(path, offset)).size:
        yield found
        offset += found.size


def writers(directory: Path) -> list[str]:
    """Returns the ids of all processes with a lock file or a journal file in `directory`, the oldest process first.

    Returns an empty list if the directory is missing.
    """
    # The ids are UUIDv7, whose order is that of their time. The shipper asks several times a second.
    with suppress(FileNotFoundError):
        names = os.listdir(directory)
        return sorted({name.partition(".")[0] for name in names if name.endswith((".lock", ".journal"))})
    return []


def segments_of(directory: Path, writer: str) -> list[Path]:
    """Returns the paths of all journal files of the process with the id `writer`, the oldest first."""
    return sorted(directory.glob(f"{writer}.*.journal"))


def waiting_bytes(directory: Path, shipped: Mapping[str, int]) -> int:
    """Returns how many bytes of the journal files in `directory` are not in the database yet.

    `shipped` maps the names of files to the numbers of their bytes that are in the database.
    """
    waiting = 0
    with suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            if entry.name.endswith(".journal"):
                with suppress(FileNotFoundError):  # shipped and deleted in the meantime
                    waiting += max(0, entry.stat().st_size - shipped.get(entry.name, 0))
    return waiting


def copy_all(directory: Path, chunk_bytes: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields the name and content of every file of all journals, for a backup; processes may write to them meanwhile.

    The content is an iterator of chunks of at most `chunk_bytes`; read it before you request the next file. Files of
    undelivered records, such as dead letters, come last. Each record that was written before the start is in one of the
    files, or is in the database when the last file is yielded.
    """
    for patterns in (("*.journal",), ("*.log", "*.retried")):
        # A file that vanishes before it is opened has been delivered. The begin records of its open calls were copied
        # to the next file of the journal, which had its name before that. So the directory is read again until all
        # files in it are known. A record that the database refuses is in the dead letters before its segment vanishes,
        # so these come last. Letters that a replay tries again come before those files to which it returns them.
        known: set[Path] = set()
        while new := {path for pattern in patterns for path in directory.glob(pattern)} - known:
            for path in sorted(new, key=lambda path: (path.suffix == ".log", path)):
                with suppress(FileNotFoundError), path.open("rb") as file:
                    known.add(path)
                    yield path.name, _chunks(file, os.fstat(file.fileno()).st_size, chunk_bytes)


def is_alive(directory: Path, writer: str) -> bool:
    """Returns whether the process with the id `writer` is alive, which is so if its lock file is locked.

    Returns False if the lock file is missing or cannot be opened.
    """
    try:
        return is_locked(directory / f"{writer}.lock")
    except OSError:
        return False


@contextmanager
def adopted(directory: Path, writer: str) -> Iterator[list[Path]]:
    """Context manager that locks the journal of a dead process, and yields the paths of its files, the oldest first.

    Yields an empty list if the process is alive, or if its lock file is locked by another process or cannot be opened.
    At the end, the lock file is deleted if the journal has no more files.
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
            for path in (*directory.glob(f".{writer}.*new"), lock):  # what it was about to name when it was killed
                path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _chunks(file: BinaryIO, size: int, chunk_bytes: int) -> Iterator[bytes]:
    """Yields the first `size` bytes of a file in chunks; ends early if the file has become shorter."""
    while size > 0 and (chunk := file.read(min(size, chunk_bytes))):
        yield chunk
        size -= len(chunk)
