"""The files beside the journal for records that could not be delivered: refused (dead letters), damaged, pruned, newer.

A line is in its file whole and synced to the disk, or not at all, because it is then deleted elsewhere. Several
processes append lines; each holds the lock of the directory meanwhile. After a line that a crash has cut off, a new
line begins.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson

from usage.call_record import CallRecord

DAMAGED = "damaged.log"
PRUNED = "pruned.log"
DEAD_LETTERS = "deadletter.log"
RETRIED = "deadletter.retried"  # dead letters that a replay is trying again
NEWER = "newer.log"  # records that a newer version of this code has written
NEWER_RETRIED = "newer.retried"


def append(path: Path, lines: Iterable[bytes]) -> None:
    """Appends lines to a file beside the journal, such as `damaged.log`, and syncs the file to the disk.

    The lines are given without newlines.

    Raises:
        OSError: the disk does not take the lines; the file is then unchanged.
    """
    with _locked(path.parent) as directory:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(fd).st_size
            is_torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            data = b"\n" * is_torn + b"".join(line + b"\n" for line in lines)
            try:
                if os.write(fd, data) != len(data):  # a full disk writes short without an error
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        if size == 0:  # the file may be new: then its name must be synced, too
            os.fsync(directory)


def begin_retry(directory: Path, name: str = DEAD_LETTERS, retried_name: str = RETRIED) -> Path:
    """Renames a file of undelivered records to `retried_name`, and returns the new path; new records go to a new file.

    The file to rename is `name`, by default that of the dead letters. If a file `retried_name` was left by an
    interrupted retry, that one is to be tried first, and nothing is renamed. If there is neither file, no file exists
    at the returned path.
    """
    kept, retried = directory / name, directory / retried_name
    if kept.exists() and not retried.exists():
        with _locked(directory):  # so that no other process is appending to the file
            kept.rename(retried)
    return retried


def read_letter(line: bytes) -> CallRecord | None:
    """Parses a line of the dead-letter file, and returns the call's row that the database had refused.

    Returns None for a line without such a row, for example after a crash has cut it off.
    """
    try:
        letter = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(letter, dict) or not isinstance(letter.get("request_id"), str):
        return None
    return cast(CallRecord, letter)  # it may hold any value, which the code that delivers it expects


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Context manager that waits for the lock of the journal's directory; yields a file descriptor of the directory."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)
