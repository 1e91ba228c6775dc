"""Lock files that show whether a process lives: it holds an exclusive lock on its file for its life.

The operating system releases the lock when the process ends, for whatever reason. If somebody deletes or moves the file
meanwhile, others take the process for dead. So the process must look again and again whether its file is still there.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def make_lock_file(path: Path) -> int:
    """Creates the file `path`, or replaces it, and locks it for this process; returns the descriptor of the open file.

    Raises:
        OSError: the directory cannot be written.
    """
    # Locked before it has its name, because nobody may find it unlocked and think its process dead.
    unnamed = path.with_name(f".{path.stem}.new")
    fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        unnamed.rename(path)
    except OSError:
        os.close(fd)
        raise
    return fd


def is_locked(path: Path) -> bool:
    """Returns whether a process holds an exclusive lock on the file at `path`; False for a missing file.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def is_at(path: Path, fd: int) -> bool:
    """Returns whether the file at `path` is the one that is open as `fd`; False if that file was deleted or moved."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False
