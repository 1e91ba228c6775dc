"""Owns what each worker says of itself once a second, in a file of its own, and the reading of what all of them say.

`DATA_DIR/workers/<id>.json` is whole or not there (a rename). A worker holds a lock on `<id>.lock` for its life:
whoever gets that lock knows that it is dead, adds what it had counted to `departed.json`, once, and removes its
files. So counters go on through restarts and `kill -9`, and nobody counts the calls in flight of the dead.

The worker that reads writes its own file first, and takes its own state from memory: a full disk, which takes no file,
must not hide that it is full. Of the other workers the last state that the disk took is read.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import orjson
from django.conf import settings
from uuid_utils import uuid7

from usage.counters import Sum, counters

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
DEAD_COUNTS_FILE = "departed.json"
DEAD_COUNTS_LOCK = ".departed.lock"
MAX_REMEMBERED_IDS = 100  # of the dead: enough for those whose files could not be removed at once

WorkerReport = dict[str, Any]


def directory() -> Path:
    return settings.DATA_DIR / "workers"


class WorkerFile:
    """This process's file. `state` gives what is to be said, as JSON takes it."""

    of_this_process: ClassVar[WorkerFile | None] = None  # from `start` to `stop`

    def __init__(self, state: Callable[[], WorkerReport]) -> None:
        self._id = str(uuid7())
        self._state = state
        self._lock_fd = -1
        self._is_refused = False
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker file", daemon=True)

    def start(self) -> None:
        """Raises OSError if DATA_DIR cannot be written."""
        directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory() / DEAD_COUNTS_LOCK).touch(mode=0o600)  # later the disk may be full
        # Locked before it has its name: nobody may find it unlocked and think its worker dead.
        unnamed = directory() / f".{self._id}.new"
        self._lock_fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        unnamed.rename(directory() / f"{self._id}.lock")
        self.write_report()
        WorkerFile.of_this_process = self
        self._thread.start()

    def stop(self) -> None:
        """What has been counted stays; the lock goes with it."""
        self._stopping.set()
        self._thread.join(REPORT_SECONDS)
        WorkerFile.of_this_process = None
        try:
            self.write_report()
        finally:
            os.close(self._lock_fd)

    @property
    def path(self) -> Path:
        return directory() / f"{self._id}.json"

    def write_report(self) -> WorkerReport:
        """Writes the worker's state to its file, and returns it. A disk that takes nothing keeps the last one."""
        with self._writing:
            state = {"id": self._id, "pid": os.getpid(), "at": time.time(), **self._state(), **counters.snapshot()}
            try:
                _write(self.path, state)
                self._is_refused = False
            except OSError as error:
                if not self._is_refused:  # a full disk would say so each second
                    logger.warning("what this worker counts cannot be written: %s", error)
                self._is_refused = True
            return state

    def _run(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            try:
                self.write_report()
            except Exception:  # the border: a worker whose file is old still takes calls
                logger.exception("a worker's file was not written")


@dataclass
class WorkerReports:
    """The states of those alive, and what all that ever were have counted."""

    alive: list[WorkerReport] = field(default_factory=list)
    counted: Sum = field(default_factory=Sum)


def read_worker_reports() -> WorkerReports:
    """What all workers of this host say, the dead ones' counts included. The disk may be full."""
    workers = WorkerReports()
    if not directory().exists():
        return workers
    own = WorkerFile.of_this_process
    if own is not None:
        own_state = own.write_report()
        workers.alive.append(own_state)
        workers.counted.add(own_state)
    with _locked_dead_counts() as departed:
        for path in sorted(directory().glob("*.json")):
            if path.name == DEAD_COUNTS_FILE or (own is not None and path == own.path):
                continue
            state = _read(path)
            if _is_alive(path):
                if state:
                    workers.alive.append(state)
                    workers.counted.add(state)
            else:
                departed.take(path, state)
        workers.counted.add(departed.counted.snapshot())
    return workers


class _DeadWorkerCounts:
    """The counts of the dead, and whose they are: a crash between two writes must not count anybody twice."""

    def __init__(self) -> None:
        self._path = directory() / DEAD_COUNTS_FILE
        kept = _read(self._path) or {"values": [], "histograms": [], "ids": []}
        self.counted = Sum()
        self.counted.add(kept)
        self._ids: list[str] = kept["ids"]

    def take(self, path: Path, state: WorkerReport | None) -> None:
        """Adds the counts of a dead worker, and removes its files once its counts are on the disk."""
        if state and state["id"] not in self._ids:
            self.counted.add(state)
            self._ids = [*self._ids, state["id"]][-MAX_REMEMBERED_IDS:]
            try:
                _write(self._path, {**self.counted.snapshot(), "ids": self._ids})
            except OSError as error:  # the next reader adds them again
                logger.warning("what a dead worker has counted cannot be written: %s", error)
                return
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


@contextmanager
def _locked_dead_counts() -> Iterator[_DeadWorkerCounts]:
    """One reader at a time."""
    fd = os.open(directory() / DEAD_COUNTS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _DeadWorkerCounts()
    finally:
        os.close(fd)


def _is_alive(path: Path) -> bool:
    try:
        fd = os.open(path.with_suffix(".lock"), os.O_RDWR)
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


def _read(path: Path) -> WorkerReport | None:
    try:
        state: WorkerReport = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return state


def _write(path: Path, state: Mapping[str, Any]) -> None:
    unnamed = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(orjson.dumps(state))
    unnamed.rename(path)
