"""The shipper: the one process of a host that copies records from the journals into the tables, and maintains these.

It ships the journals of all writers (workers), living or dead, deletes rows that are older than their retention,
updates the price list, polls background responses, measures clocks and budgets for `/metrics`, and sends alerts. It may
be killed at any moment: all its work is repeatable, and its state is in the tables and the files.

A lock decides which process ships. A second shipper of the same DATA_DIR waits for the lock. There is one if a server
was killed and started again while the old shipper still ships for the last workers. Then the old shipper gives up the
lock, so that the new code ships the new workers' calls.

This module is imported after Django was set up (`chatproxy.management.commands.ship`).
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from pathlib import Path

from django.conf import settings

from chatproxy.alerts.evaluation import AlertEvaluation
from chatproxy.alerts.outbox import AlertOutbox
from chatproxy.logs import log_everything
from chatproxy.processes.database_watch import DatabaseWatch
from chatproxy.processes.polling_thread import BackgroundPolls
from usage.journal import segments
from usage.journal_shipping.shipper import Shipper
from usage.live.shipping_state import report_shipping, shipper_lock
from usage.live.worker_files import SHIPPER_SUFFIX, WorkerFile, WorkerReport, read_worker_reports
from usage.upkeep.price_update_thread import PriceUpdates
from usage.upkeep.retention import DailyPruning

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
TRY_AGAIN_SECONDS = 10.0  # after a report could not be written
LOOK_SECONDS = 0.5  # between two checks of whether it is this shipper's turn
GIVE_UP_SECONDS = 2.0  # between two checks of whether it is another's, which is rare


def run_shipper(lifeline: int) -> None:
    """Runs the shipper, which copies this host's journals into the database, until the pipe `lifeline` ends.

    `lifeline` is a file descriptor. Once it ends, the shipper copies the records that are left, and the function
    returns. It also does so when another process must take over, because this process's server is dead.

    If another process ships the journals, this one first waits until that process stops; if `lifeline` ends meanwhile,
    the function returns, and leaves the records to the other process.

    Raises:
        OSError: DATA_DIR cannot be written.
    """
    log_everything()
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(lifeline, ended), name="lifeline", daemon=True).start()
    turn = _Turn(shipper_lock())
    if turn.wait_for(ended):
        _ship_until(ended, turn)


def _wait_for_end(lifeline: int, ended: threading.Event) -> None:
    """Waits for the end of the pipe `lifeline`, a file descriptor, or for an error; then sets the event `ended`.

    gunicorn's master and workers hold the other end of the pipe, so it ends when all of these processes have ended.
    """
    try:
        while os.read(lifeline, 4096):
            pass
    finally:
        ended.set()


class _Turn:
    """The right to ship this host's journals (to copy their records to the database); one process has it at a time.

    The right is a lock on the file `path`. A process that waits for it locks a second file, so that the first process
    learns that somebody waits.
    """

    def __init__(self, path: Path) -> None:
        self.lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._next = os.open(path.with_suffix(".next"), os.O_RDWR | os.O_CREAT, 0o600)
        self._parent = os.getppid()

    def wait_for(self, ended: threading.Event) -> bool:
        """Waits until this process may ship the journals, and returns True; returns False if `ended` is set first.

        If it returns False, the process that ships at present also ships the records that are left in the journals.
        """
        while not _try_lock(self.lock):
            _try_lock(self._next)
            if ended.wait(LOOK_SECONDS):
                return False
        fcntl.flock(self._next, fcntl.LOCK_UN)
        return True

    def is_over(self) -> bool:
        """Returns whether this shipper process must stop, so that another one can copy the journals to the database.

        This is so if the server that started this process is dead, and another server's shipper waits for its turn.
        """
        if os.getppid() == self._parent:
            return False
        if not _try_lock(self._next):
            return True
        fcntl.flock(self._next, fcntl.LOCK_UN)
        return False


def _try_lock(descriptor: int) -> bool:
    """Tries to lock an open file, and returns True; returns False at once if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _StatusFile:
    """The file in which the shipper reports its state, for the dashboard and `/metrics`.

    If the file cannot be written, the shipper works on without it.
    """

    def __init__(self, report: Callable[[], WorkerReport]) -> None:
        self._report = report
        self._file: WorkerFile | None = None
        self._tried_at = -inf
        self._is_refused = False

    def start(self) -> None:
        """Starts to write the status file; does nothing if that was done before, or has failed in the last 10 seconds.

        First adds up the metric counters of dead processes, and deletes their files. A failure is logged only the first
        time.
        """
        if self._file is not None or time.monotonic() - self._tried_at < TRY_AGAIN_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            read_worker_reports()  # adds up and removes the counts of dead processes, also if nobody reads `/metrics`
            file = WorkerFile(self._report, SHIPPER_SUFFIX)
            file.start()
        except Exception:  # the border: a full disk perhaps, on which shipping makes room
            if not self._is_refused:
                logger.exception("the shipper cannot write its report, and tries again")
            self._is_refused = True
        else:
            self._file = file

    def stop(self) -> None:
        """Writes the last report to the status file and stops; does nothing if the file was never started."""
        if self._file is not None:
            self._file.stop()


def _ship_until(ended: threading.Event, turn: _Turn) -> None:
    """Runs all parts of the shipper until the event `ended` is set, or until this process's `turn` to ship is over.

    Then ends the parts one after the other. Near the end, the records that are left in the journals are copied to the
    database, for `DRAIN_SECONDS` at most.
    """
    journal = settings.DATA_DIR / "journal"
    shipper = Shipper(journal, _complete_at(turn.lock) if segments.waiting_bytes(journal, {}) else None)
    watch = DatabaseWatch()
    others = (PriceUpdates(), DailyPruning(), BackgroundPolls(), watch, AlertOutbox(), AlertEvaluation())

    def report() -> WorkerReport:
        shipper.delivery.log_silence()  # here, since a thread that waits for the database cannot say so
        return report_shipping(
            turn.lock,
            shipped_bytes=shipper.shipped_bytes,
            complete_at=shipper.complete_at,
            database_fault=shipper.delivery.database_fault,
            shipper_fault=shipper.fault,
            clock_difference=watch.clock_difference,
            budgets=watch.budgets,
        )

    status = _StatusFile(report)
    with ExitStack() as steps:  # runs all of them, the last one first, even if one fails
        steps.callback(status.stop)
        shipper.start()
        steps.callback(shipper.stop, DRAIN_SECONDS)
        status.start()
        for part in others:
            part.start()
            steps.callback(part.stop)
        gc.freeze()  # as a worker does with what it has loaded (`chatproxy.processes.lifespan`)
        logger.info("the shipper ships the journals of this host")
        while not ended.wait(GIVE_UP_SECONDS) and not turn.is_over():
            status.start()


def _complete_at(lock: int) -> float:
    """Returns the time (`time.monotonic()`) up to which all journal records are known to be in the database.

    Shippers store it as the modification time of their lock file, whose descriptor is `lock`. For a new file, it is the
    time when the file was created.
    """
    return time.monotonic() - max(0.0, time.time() - os.fstat(lock).st_mtime)
