"""Writes files that only their owner may read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_private(path: Path, text: str) -> None:
    """Writes a text to a file that only its owner may read, and replaces the file if it exists.

    Nobody ever sees the file half written, or readable for others.
    """
    with private_file(path) as file:
        file.write(text.encode())


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Context manager that writes the file `path`: yields a temporary file of mode 0600, for the block to write to.

    After the block, the content is forced to the disk. Only then is the temporary file renamed to `path`, which
    replaces an older file there. If the block fails, the temporary file is deleted, and an older file stays.

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
    """Waits until the names of the files in a directory would survive a power cut, if its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
