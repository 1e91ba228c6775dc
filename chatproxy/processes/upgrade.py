"""Upgrades to new code without a pause: gunicorn's master replaces its workers, and itself, while calls go on.

At SIGUSR2, `manage.py serve --prepare` runs beside the server, with the code that is now on the disk: it checks the
settings and migrates the database. If it succeeds, the master process becomes the new `manage.py serve` by `exec`: it
keeps its process id, its port and its lock on the bundled PostgreSQL, so nobody but the workers notices. The old
workers stay its children. Once enough new workers serve, the old ones get SIGTERM and finish their calls.

At SIGUSR1, only the workers are replaced. A worker asks for this if the times in its ids run ahead of the clock.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from math import inf

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from chatproxy.configuration import setting_reader
from chatproxy.processes.shipper_watch import ShipperWatch
from chatproxy.processes.unix_signals import (
    HELD_SIGNALS,
    REPLACEMENT_SIGNALS,
    UPGRADE,
    stop_moment,
    unblock_signals,
)

logger = logging.getLogger(__name__)

REPLACE_SECONDS = 60.0  # several workers may ask at once; after the first, requests are ignored for so long
OLD_WORKERS = "CHATPROXY_OLD_WORKERS"  # environment variable: the process ids of the workers that the new master gets
PREPARED = "chatproxy: prepared"  # the last line of `manage.py serve --prepare`, if it has succeeded
NO_STATUS = -1  # an exit status that no process has


class StartReports:
    """The pipe in which each worker reports to the master that it has started to serve."""

    # Made when the master loads this module, before it forks a worker.
    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._memory = mmap.mmap(-1, 1)  # shared with all workers; not 0 once one of them has started to serve

    @property
    def has_any(self) -> bool:
        """True if any worker has reported that it serves, including workers of the code before an upgrade."""
        return self._memory[0] != 0

    def mark(self) -> None:
        """Makes `has_any` true, because a worker serves: one of this code, or one of the code before an upgrade."""
        self._memory[0] = 1

    def report(self) -> None:
        """Reports to the master that this worker process has started to serve."""
        self.mark()
        with suppress(BlockingIOError):  # full of reports that nobody has waited for
            os.write(self._write, b".")

    def forget(self) -> None:
        """Drops the workers' reports that have arrived until now, so that `wait_for` counts only later ones."""
        with suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def wait_for(self, count: int) -> None:
        """Waits until `count` more workers have reported that they serve.

        Reports that an earlier `wait_for` has counted, or that `forget` has dropped, do not count.
        """
        while count > 0:
            select.select([self._read], [], [])
            with suppress(BlockingIOError):  # `forget` has read it
                count -= len(os.read(self._read, count))


start_reports = StartReports()


class AdoptedWorker:
    """Placeholder in gunicorn's table of workers for a worker that runs the code from before the master's upgrade.

    gunicorn takes it for alive until the worker's process has ended.
    """

    age = 0
    aborted = False
    has_started = True

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.tmp = self

    # A worker's heartbeats do not reach the new master.
    def last_update(self) -> float:
        return time.monotonic()

    def close(self) -> None: ...


class Upgrade:
    """The handlers of SIGUSR1 and SIGUSR2 in gunicorn's master, which replace the workers or the whole code.

    All methods are called in the main thread, except `_retire` and `_wait`.
    """

    def __init__(self, shipper: ShipperWatch) -> None:
        # ended before the master becomes new code, which starts a shipper of its own
        self._shipper = shipper
        self._retiring: set[int] = set()
        self._retirement: threading.Thread | None = None
        self._replaced_at = -inf
        self._preparing: subprocess.Popen[str] | None = None
        self._is_prepared = False

    def install(self, master: Arbiter) -> None:
        """Makes gunicorn's master call this object for the signals SIGUSR1 (new workers) and SIGUSR2 (new code).

        Also keeps the master from stopping when a worker cannot start, once a worker has served. If the master has just
        replaced its code, it takes over the workers of the old code, and starts new ones in their place.
        """
        self._master = master
        master.handle_usr1 = self._replace_workers_on_request
        master.handle_usr2 = self._upgrade
        _go_on_without_failed_workers(master)
        old = [int(pid) for pid in os.environ.pop(OLD_WORKERS, "").split(",") if pid]
        if old:
            start_reports.mark()
            master.WORKERS.update({pid: AdoptedWorker(pid) for pid in old})
            self._replace_workers(master.cfg.workers)
            master.SIG_QUEUE.put_nowait(signal.SIGCHLD)  # one of them may have ended meanwhile

    def worker_has_ended(self, worker: Worker) -> None:
        """Keeps gunicorn from starting another worker in place of `worker`, if a replacement of workers has ended it.

        Called for each worker that has ended; does nothing if it ended for another reason.
        """
        if worker.pid in self._retiring:
            self._retiring.discard(worker.pid)
            self._master.num_workers -= 1

    def _replace_workers_on_request(self) -> None:
        """Replaces all workers, at most once in `REPLACE_SECONDS`, and not while a replacement is under way."""
        is_under_way = self._retirement is not None and self._retirement.is_alive()
        if not is_under_way and time.monotonic() - self._replaced_at >= REPLACE_SECONDS:
            self._replace_workers(self._master.num_workers - len(self._retiring))

    def _replace_workers(self, count: int) -> None:
        """Makes gunicorn start new workers; a thread ends the old workers once `count` of the new ones serve."""
        self._replaced_at = time.monotonic()
        old = set(self._master.WORKERS) - self._retiring
        self._retiring |= old
        # gunicorn keeps as many workers as this says. It counts the old ones until each has ended: so a new worker that
        # dies has a successor although old ones are finishing their calls.
        self._master.num_workers += len(old)
        start_reports.forget()
        self._retirement = threading.Thread(
            target=self._retire, args=(old, count), name="retiring workers", daemon=True
        )
        self._retirement.start()

    def _retire(self, old: set[int], count: int) -> None:
        """Waits until `count` new workers serve, then sends SIGTERM to the old ones, which finish their calls."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as in `chatproxy.process_restarts`
        start_reports.wait_for(count)
        for pid in old & self._retiring:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _upgrade(self) -> None:
        """Handles SIGUSR2: starts a process that prepares the new code, unless one runs already.

        The thread that waits for that process calls this method again if it succeeds: then the master runs the new
        code. If the process cannot be started, an error is logged, and the server goes on as it is.
        """
        if self._is_prepared:
            self._become_new_code()
        elif self._preparing is None:
            logger.info("SIGUSR2: the code on the disk is prepared, and takes over if it can start")
            # Inherited, since the signal may be sent to all processes, and once more.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, REPLACEMENT_SIGNALS)
            try:
                # stdout is read to its end: gunicorn may learn of the exit first, and then the status is lost.
                self._preparing = subprocess.Popen(
                    [sys.executable, "manage.py", "serve", "--prepare"],
                    cwd=setting_reader.BASE_DIR,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            except OSError as error:  # no memory or process is left, or the code is being exchanged
                logger.error("the code on the disk cannot be run: %s; the server goes on as it is", error.strerror)
                return
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            threading.Thread(target=self._wait, args=(self._preparing,), name="upgrade", daemon=True).start()

    def _wait(self, preparing: subprocess.Popen[str]) -> None:
        """Waits for the process that prepares the new code; if it succeeds, makes the main thread call `_upgrade`.

        If it fails, an error is logged, and the server goes on as it is.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        said, _ = preparing.communicate()
        self._is_prepared = said.rstrip().endswith(PREPARED)
        self._preparing = None
        if self._is_prepared:
            self._master.SIG_QUEUE.put_nowait(UPGRADE)
        else:
            logger.error("the code on the disk cannot start, for the reason above; the server goes on as it is")

    def _become_new_code(self) -> None:
        """Replaces the master's program by `manage.py serve` of the code that is on the disk now, in the same process.

        First kills the shipper process, since the new code starts its own. Returns only if the server is stopping, or
        if the code cannot be executed; then the server goes on as before.
        """
        self._is_prepared = False
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        if stop_moment.at < inf:  # a signal to stop came before they were blocked, and would be lost
            unblock_signals()
            return
        logger.info("the code on the disk takes over")
        self._shipper.kill()
        for listener in self._master.LISTENERS:
            os.set_inheritable(listener.fileno(), True)
        # gunicorn passes the port on to a new master of its own in these variables. Signals wait until the new master
        # handles them.
        variables = {
            "GUNICORN_FD": ",".join(str(listener.fileno()) for listener in self._master.LISTENERS),
            "GUNICORN_PID": str(os.getpid()),
            OLD_WORKERS: ",".join(str(pid) for pid in self._master.WORKERS),
        }
        options = ["--reload"] if self._master.cfg.reload else []
        try:
            os.chdir(setting_reader.BASE_DIR)
            os.execve(  # noqa: S606  (no shell is the point)
                sys.executable, [sys.executable, "manage.py", "serve", *options], {**os.environ, **variables}
            )
        except OSError as error:
            logger.error("the code on the disk cannot be run: %s; the server goes on as it is", error.strerror)
            self._shipper.resume()
            unblock_signals()


def _go_on_without_failed_workers(master: Arbiter) -> None:
    """Makes gunicorn try again when a worker cannot start; gunicorn gives up only if no worker has ever served."""
    # gunicorn itself stops the server when a worker cannot load the application. That is right for a server that has
    # never served. Later it would cut the calls of all other workers, because the disk is full for example.
    reap_workers = master.reap_workers

    def reap_workers_and_go_on() -> None:
        if start_reports.has_any:  # gunicorn compares the exit status of each worker that has ended with these
            master.WORKER_BOOT_ERROR = master.APP_LOAD_ERROR = NO_STATUS
        reap_workers()

    master.reap_workers = reap_workers_and_go_on


def is_taking_over() -> bool:
    """Returns whether this process is a server's master that has just replaced its code, and has kept its port."""
    return os.environ.get("GUNICORN_PID") == str(os.getpid())
