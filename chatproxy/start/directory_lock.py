"""The lock that lets only one server at a time use a `DATA_DIR`: a POSIX record lock on a file in the directory.

The master process holds it. Such a lock survives `exec` if its file descriptor does, so it passes from
`manage.py serve` to gunicorn's master, and to new code in an upgrade. Workers and the shipper do not inherit it, and it
ends with its process, however the process dies: so a new server may start at once while the workers of a killed one
finish their calls. All containers of a machine that share a volume see it, whatever process ids they have.

A process that closes any descriptor of the file loses the lock. So the master must not open the file again.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

NAME = "server.lock"


def lock_directory(data_dir: Path) -> bool:
    """Locks `data_dir` for this process and for the program that replaces it by `exec`; returns whether it was locked.

    Returns False if another process has locked the directory. If this process has locked it before, returns True.

    Raises:
        OSError: the lock file cannot be made or locked.
    """
    descriptor = os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT, 0o600)
    if not _try_lock(descriptor):
        os.close(descriptor)
        return False
    os.set_inheritable(descriptor, True)  # through `exec`; children of `subprocess` do not get it
    return True


def is_directory_locked(data_dir: Path) -> bool:
    """Returns whether another process has locked `data_dir`; False if the lock file is missing or cannot be opened.

    Must not be called in a process that has locked `data_dir` itself: it would lose its lock.
    """
    with suppress(OSError):  # nobody has locked a file that is missing
        descriptor = os.open(data_dir / NAME, os.O_RDWR)
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either error for a lock that another process has
        return False
    return True
