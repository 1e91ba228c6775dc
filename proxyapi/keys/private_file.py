"""Writes files, and makes directories, that only their owner (the user of this process) may read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def make_private_directory(path: Path) -> None:
    """Creates a directory and all missing ones above it, for their owner only; does not change an existing one.

    Raises:
        FileExistsError: the path exists, but is neither a directory nor a link to one.
        OSError: a directory cannot be created.
    """
    # `Path.mkdir(mode, parents=True)` gives the mode only to the last one.
    missing = [one for one in reversed(path.parents) if not os.path.lexists(one)]
    for one in (*missing, path):
        one.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Writes a text to a file that only its owner may read; replaces an existing file in one step.

    Raises:
        OSError: the file cannot be written.
    """
    with private_file(path) as file:
        file.write(text.encode())


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Context manager that writes the file `path`, readable for its owner only: yields a temporary file to write to.

    After the block, the temporary file is synced to the disk and replaces `path`. If the block fails, `path` stays as
    it was.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
        _sync_directory(path.parent)
    except BaseException:  # a border: whatever has failed, the temporary file is deleted
        Path(name).unlink(missing_ok=True)
        raise


def _sync_directory(path: Path) -> None:
    """Syncs a directory to the disk, so that the names of its files survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some file systems cannot do that
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
