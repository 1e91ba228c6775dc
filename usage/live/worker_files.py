"""The reports that workers write once a second, one file for each worker, and the sum of what they have counted.

`DATA_DIR/workers/<id>.json` is replaced by a rename, so a reader finds a whole report or none. A worker holds a lock on
`<id>.lock` for its life: whoever gets that lock knows that the worker is dead, adds its counts to `departed.json`,
once, and removes its files. So counters go on through restarts and `kill -9`, and the calls in flight of a dead worker
are not counted.

The worker that reads writes its own report first, and takes it from memory: a full disk, which takes no file, must not
hide that it is full. The other workers' reports are the last ones that the disk took. A report may have been written by
another version of this program: a reader takes the fields that it knows, and gives those that are missing a default.
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
from typing import ClassVar

import orjson
from django.conf import settings
from uuid_utils import uuid7

from usage.counters import Sum, counters

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
DEAD_COUNTS_FILE = "departed.json"
DEAD_COUNTS_LOCK = ".departed.lock"
MAX_REMEMBERED_IDS = 100  # of dead workers: enough for those whose files could not be removed at once

WorkerReport = Mapping[str, object]  # as JSON takes it


def directory() -> Path:
    return settings.DATA_DIR / "workers"


class WorkerFile:
    """The file in which this process reports. `state` returns the state of the worker, as JSON takes it."""

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
        """Takes the lock, writes the first report, and starts the thread that writes the others.

        Raises:
            OSError: DATA_DIR cannot be written.
        """
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
        """Writes the last report and gives up the lock. The next reader adds the counts to those of dead workers."""
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
        """Writes this worker's report to its file, and returns it. If the disk refuses it, the file stays as it is."""
        with self._writing:
            report = {"id": self._id, "pid": os.getpid(), "at": time.time(), **self._state(), **counters.snapshot()}
            try:
                _write(self.path, report)
                self._is_refused = False
            except OSError as error:
                if not self._is_refused:  # once: a full disk would fill the log each second
                    logger.warning("the report of this worker cannot be written: %s", error)
                self._is_refused = True
            return report

    def _run(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            try:
                self.write_report()
            except Exception:  # the border: a worker whose report is old still takes calls
                logger.exception("the report of this worker was not written")


@dataclass
class WorkerReports:
    """The reports of the workers that are alive, and the sum of what all workers, dead ones too, have counted."""

    alive: list[WorkerReport] = field(default_factory=list)
    counted: Sum = field(default_factory=Sum)


def read_worker_reports() -> WorkerReports:
    """Reads the reports of all workers of this host. Works on a full disk, too."""
    workers = WorkerReports()
    if not directory().exists():
        return workers
    own = WorkerFile.of_this_process
    if own is not None:
        own_report = own.write_report()
        workers.alive.append(own_report)
        workers.counted.add(_counts(own_report))
    with _locked_dead_counts() as dead:
        for path in sorted(directory().glob("*.json")):
            if path.name == DEAD_COUNTS_FILE or (own is not None and path == own.path):
                continue
            report = _read(path)
            if _is_alive(path):
                if report:
                    workers.alive.append(report)
                    workers.counted.add(_counts(report))
            else:
                dead.take_over(path, report)
        workers.counted.add(dead.counted.snapshot())
    return workers


class _DeadWorkerCounts:
    """The sum of what dead workers have counted, in `departed.json`.

    The ids of the last ones are kept with it: a crash between writing the sum and removing a worker's file must not
    count that worker twice.
    """

    def __init__(self) -> None:
        self._path = directory() / DEAD_COUNTS_FILE
        kept = _read(self._path) or {}
        self.counted = Sum()
        self.counted.add(_counts(kept))
        ids = kept.get("ids")
        self._ids: list[object] = ids if isinstance(ids, list) else []

    def take_over(self, path: Path, report: WorkerReport | None) -> None:
        """Adds the counts of a dead worker, and removes its files once the new sum is on the disk."""
        if report and report.get("id") not in self._ids:
            self.counted.add(_counts(report))
            self._ids = [*self._ids, report.get("id")][-MAX_REMEMBERED_IDS:]
            try:
                _write(self._path, {**self.counted.snapshot(), "ids": self._ids})
            except OSError as error:  # the next reader adds them again
                logger.warning("the counts of a dead worker cannot be written: %s", error)
                return
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


@contextmanager
def _locked_dead_counts() -> Iterator[_DeadWorkerCounts]:
    """Gives the counts of dead workers to one reader at a time."""
    fd = os.open(directory() / DEAD_COUNTS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _DeadWorkerCounts()
    finally:
        os.close(fd)


def _is_alive(path: Path) -> bool:
    """Returns whether the worker of a report is alive: somebody holds the lock beside it."""
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


def _counts(report: WorkerReport) -> dict[str, object]:
    """Returns the part of a report that `Sum` adds up."""
    return {"values": report.get("values", []), "histograms": report.get("histograms", [])}


def _read(path: Path) -> WorkerReport | None:
    """Returns the report in a file; None if the file is gone or holds none."""
    try:
        report = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return report if isinstance(report, dict) else None


def _write(path: Path, report: WorkerReport) -> None:
    """Replaces a file in one step, so that a reader finds the old report or the new one."""
    unnamed = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(orjson.dumps(report))
    unnamed.rename(path)
