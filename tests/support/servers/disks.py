"""Disks that tests fill up: a real small one, and a pretended one for the journal."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import polling

PATIENCE = polling.PATIENCE


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[None]:
    """Mounts a small disk, a tmpfs of `size` bytes, at `directory` until the block ends.

    Skips the test if that is impossible.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)  # noqa: S607  (the system's own)


def fill(directory: Path, leave: int = 0) -> Path:
    """Fills a disk until `leave` bytes are free, by one file; returns the file, whose deletion makes room again."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        while (free := free_bytes(directory) - leave) > 0:
            file.write(b"\0" * min(free, 1024 * 1024))
    return ballast


def free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Waits until another thread or process has made the condition true; fails after `patience` seconds."""
    polling.wait_until(condition, patience)


class PretendedOS:
    """Stand-in for the module `os` in the journal: counts writes and syncs, and fails those that a test chooses.

    `room` is how many more bytes can be written; None for any number. The write that exceeds it is cut short, and the
    next one fails with `fault`. Creating a file fails, too, if there are no `free_files`. With `refuses_cuts`, what was
    written cannot be cut off.
    """

    def __init__(self) -> None:
        self.room: int | None = None
        self.free, self.free_files = 2**40, 2**20
        self.fault = errno.ENOSPC
        self.refuses_cuts = False
        self.writes: list[bytes] = []
        self.synced = 0
        self.fail_sync = False
        self.sync_entered = threading.Semaphore(0)
        self.sync_may_go = threading.Event()
        self.sync_may_go.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        taken = len(data) if self.room is None else min(len(data), self.room)
        if data and not taken:
            raise OSError(self.fault, os.strerror(self.fault))
        if self.room is not None:
            self.room -= taken
        if data:
            self.writes.append(data)
        return os.write(fd, data[:taken])

    def ftruncate(self, fd: int, length: int) -> None:
        if self.refuses_cuts:
            raise OSError(self.fault, os.strerror(self.fault))
        os.ftruncate(fd, length)

    def statvfs(self, _path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=self.free, f_frsize=1, f_files=2**21, f_favail=self.free_files)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and not self.free_files:
            raise OSError(self.fault, os.strerror(self.fault))
        return os.open(path, flags, mode)

    def fdatasync(self, fd: int) -> None:
        self.sync_entered.release()
        assert self.sync_may_go.wait(PATIENCE)
        if self.fail_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)
        self.synced += 1
