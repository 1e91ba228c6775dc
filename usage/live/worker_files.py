"""The reports that workers and the shipper write once a second, one file for each process, and the sum of their counts.

`DATA_DIR/workers/<id>.json` is replaced by a rename, so a reader finds a whole report or none. A worker holds a lock on
`<id>.lock` for its life. Whoever gets that lock knows that the worker is dead, adds its counts to `departed.json`,
once, and removes its files. So counters go on through restarts and `kill -9`, and a dead worker's calls in flight are
not counted. The shipper does the same with `<id>.shipper.json`; in this module, "worker" includes the shipper unless it
is named.

A worker whose files cannot be made or written serves without them, and tries again each second; so it makes files again
that somebody has deleted or moved. A worker that reads the reports first writes its own one, and uses that from memory,
so that a full or read-only disk cannot hide its own trouble. The other workers' reports are the last ones that could be
written. A report may have been written by another version of this program: a reader uses the fields that it knows, and
defaults for missing ones.
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

from usage.journal.lock_files import is_at, is_locked, make_lock_file
from usage.metric_counters import ServerCounters, counters

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
DEAD_COUNTS_FILE = "departed.json"
DEAD_COUNTS_LOCK = ".departed.lock"
SHIPPER_SUFFIX = ".shipper"  # of the shipper's id, in the names of its files
MAX_REMEMBERED_IDS = 100  # of dead workers; those whose files could not be deleted at once are far fewer

WorkerReport = Mapping[str, object]  # values that JSON can contain
_unreadable: set[Path] = set()  # files that this process has logged as such


def directory() -> Path:
    return settings.DATA_DIR / "workers"


class WorkerFile:
    """The file in which this process writes its report once a second, so that other processes of the host can read it.

    `state` is a function that returns the process's state, to which the report adds its counters. `suffix` ends the
    file's name: `SHIPPER_SUFFIX` in the shipper, empty in a worker.
    """

    of_this_process: ClassVar[WorkerFile | None] = None  # the one that runs: set by `start`, reset by `stop`

    def __init__(self, state: Callable[[], WorkerReport], suffix: str = "") -> None:
        self._id = f"{uuid7()}{suffix}"
        self._state = state
        self._lock_fd = -1
        self._is_refused = False
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker file", daemon=True)

    def start(self) -> None:
        """Locks this worker's lock file, writes the first report, and starts the thread that writes the later ones.

        If the files cannot be made or written, this is logged, and the thread tries again.
        """
        WorkerFile.of_this_process = self
        self.write_report()
        self._thread.start()

    def _make_lock_file(self) -> None:
        """Makes and locks this worker's lock file if it is missing. Raises OSError if DATA_DIR cannot be written."""
        lock = self.path.with_suffix(".lock")
        if is_at(lock, self._lock_fd):
            return
        directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory() / DEAD_COUNTS_LOCK).touch(mode=0o600)  # now, because the disk may be full later
        deleted, self._lock_fd = self._lock_fd, make_lock_file(lock)
        if deleted >= 0:
            os.close(deleted)

    def stop(self) -> None:
        """Writes this worker's last report, and unlocks its lock file, so that others see that the worker has ended."""
        # The next process that reads the reports adds the counters to those of dead workers.
        self._stopping.set()
        self._thread.join(REPORT_SECONDS)
        WorkerFile.of_this_process = None
        try:
            self.write_report()
        finally:
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    @property
    def path(self) -> Path:
        return directory() / f"{self._id}.json"

    @property
    def is_shippers(self) -> bool:
        """True if this process is the shipper, False if it is a worker."""
        return self._id.endswith(SHIPPER_SUFFIX)

    def write_report(self) -> WorkerReport:
        """Writes this worker's report (its state and its counters) to its file, and returns the report.

        If the disk refuses the report, the file keeps the earlier one.
        """
        with self._writing:
            report = {"id": self._id, "pid": os.getpid(), "at": time.time(), **self._state(), **counters.snapshot()}
            try:
                self._make_lock_file()  # first, since a report without it would be a dead worker's
                _write(self.path, report)
                self._is_refused = False
            except OSError as error:
                if not self._is_refused:  # logged once, because a full disk refuses a report each second
                    logger.warning("the report of this worker cannot be written, so others do not see it: %s", error)
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
    """The state of this host's gateway processes, as `read_worker_reports` finds it.

    * `alive`: the newest report of each living worker, as values for JSON.
    * `shipper`: the report of the process that copies the journals to PostgreSQL; None if it does not run.
    * `counted`: the metric counters of all processes, living and dead, added up.
    """

    alive: list[WorkerReport] = field(default_factory=list)
    shipper: WorkerReport | None = None
    counted: ServerCounters = field(default_factory=ServerCounters)

    def add(self, report: WorkerReport, *, is_shippers: bool) -> None:
        """Adds the report of a living process (of the shipper if `is_shippers`), and its counters to `counted`."""
        self.counted.add(report)
        if is_shippers:
            self.shipper = report
        else:
            self.alive.append(report)


def read_worker_reports() -> WorkerReports:
    """Reads and returns the reports of this host's living workers and shipper, and the counters of all processes.

    Unreadable files are left out, and a full disk causes no error. This function also writes the present process's own
    report, and moves the counters of dead processes to the file `departed.json`.
    """
    workers = WorkerReports()
    own = WorkerFile.of_this_process
    if own is not None:
        workers.add(own.write_report(), is_shippers=own.is_shippers)
    if not os.path.exists(directory()):  # False, too, if this account may not look into DATA_DIR
        return workers
    with _unreadable_logged(directory() / DEAD_COUNTS_LOCK), _locked_dead_counts() as dead:
        for path in sorted(directory().glob("*.json")):
            if path.name == DEAD_COUNTS_FILE or (own is not None and path == own.path):
                continue
            with _unreadable_logged(path):
                report = _read(path)
                if not _is_alive(path):
                    dead.take_over(path, report)
                elif report:
                    workers.add(report, is_shippers=path.stem.endswith(SHIPPER_SUFFIX))
        workers.counted.add(dead.counted.snapshot())
    return workers


def read_shipper_report() -> WorkerReport | None:
    """Reads and returns the report of this host's shipper; None if no shipper runs, or its report may not be read."""
    for path in directory().glob(f"*{SHIPPER_SUFFIX}.json"):
        with _unreadable_logged(path):
            if _is_alive(path) and (report := _read(path)):
                return report
    return None


def has_living_worker() -> bool:
    """Returns whether any worker that uses this DATA_DIR is alive, even if it belongs to another server."""
    locks = [path for path in directory().glob("*.lock") if path.name != DEAD_COUNTS_LOCK]
    return any(is_locked(path) for path in locks if not path.stem.endswith(SHIPPER_SUFFIX))


def leave_counts() -> None:
    """Writes the counters of this process to a file, so that `/metrics` counts them after the process has ended.

    This is for processes that are no workers, such as the command `ledger`.

    Raises:
        OSError: DATA_DIR cannot be written.
    """
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    # Without a lock file, the process counts as a dead worker: the next process that reads the reports adds its
    # counters to those of dead workers, once, and deletes the file.
    name = str(uuid7())
    _write(directory() / f"{name}.json", {"id": name, **counters.snapshot()})


class _DeadWorkerCounts:
    """The sums of the counters of all dead workers, stored in the file `departed.json`.

    The file also has the ids of the workers that were added last. So a worker whose files are still there after a crash
    is not added twice.
    """

    def __init__(self) -> None:
        self._path = directory() / DEAD_COUNTS_FILE
        kept: WorkerReport = {}
        self._is_readable = False  # otherwise it is not replaced, since what it counts would be lost
        with _unreadable_logged(self._path):
            kept, self._is_readable = _read(self._path) or {}, True
        self.counted = ServerCounters()
        self.counted.add(kept)
        ids = kept.get("ids")
        self._ids: list[object] = ids if isinstance(ids, list) else []

    def take_over(self, path: Path, report: WorkerReport | None) -> None:
        """Adds a dead worker's counters to the stored sums of all dead workers, then deletes the worker's files.

        If the sums cannot be read or written, the worker's files stay for a later attempt.
        """
        if not self._is_readable:
            return
        if report and report.get("id") not in self._ids:
            self.counted.add(report)
            self._ids = [*self._ids, report.get("id")][-MAX_REMEMBERED_IDS:]
            try:
                _write(self._path, {**self.counted.snapshot(), "ids": self._ids})
            except OSError as error:  # the next process that reads the reports tries again
                logger.warning("the counts of a dead worker cannot be written: %s", error)
                return
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


@contextmanager
def _locked_dead_counts() -> Iterator[_DeadWorkerCounts]:
    """Context manager that yields the counters of dead workers, and locks them against changes by other processes."""
    lock = directory() / DEAD_COUNTS_LOCK
    # Only for reading if it exists, so that it can be locked on a full or read-only disk.
    fd = os.open(lock, os.O_RDONLY if lock.exists() else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _DeadWorkerCounts()
    finally:
        os.close(fd)


def _is_alive(path: Path) -> bool:
    """Returns whether the worker that wrote the report at `path` is alive: whether its lock file is locked."""
    return is_locked(path.with_suffix(".lock"))


def _read(path: Path) -> WorkerReport | None:
    """Returns the worker's report in the file `path`; None if the file is missing, or contains no JSON object."""
    try:
        report = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return report if isinstance(report, dict) else None


@contextmanager
def _unreadable_logged(path: Path) -> Iterator[None]:
    """Context manager for reading a file: ignores an error of the operating system, and logs it once for each file."""
    try:
        yield
    except OSError as error:
        if path not in _unreadable:
            logger.warning("the counts in %s are left out: %s", path.name, error)
        _unreadable.add(path)


def _write(path: Path, report: WorkerReport) -> None:
    """Replaces a file of reports or counts in one step: readers find either the old content or the new one."""
    unnamed = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(orjson.dumps(report))
    unnamed.rename(path)
