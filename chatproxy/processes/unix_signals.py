"""What each signal does to gunicorn's master and to its workers.

    signal             sent to the master                        sent to a worker
    SIGTERM, SIGINT    the first drains; a later one cancels     SIGTERM drains; SIGINT (Ctrl-C) is ignored
    SIGHUP             drains, however often it comes            is ignored
    SIGQUIT            cancels (gunicorn's own handler)          cancels
    SIGUSR2            replaces all workers (`REPLACE_WORKERS`)  is not used

*Draining*: no new connections, calls in flight are finished, the ledger is written, the process exits. *Cancelling*:
the same, but calls in flight are cancelled. `chatproxy.processes.worker` does both.

A worker ignores SIGINT and SIGHUP because Ctrl-C and the end of a terminal reach the whole process group: the master
alone decides what they mean. A supervisor may send SIGTERM to all processes at once, so a worker takes it too. The
shipper ignores all of them, and ends after the workers (`chatproxy.processes.shipper_watch`).
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import time
from collections.abc import Callable

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

# `manage.py serve` blocks these signals before it becomes gunicorn. Otherwise one that comes in between would be lost,
# or would leave the bundled PostgreSQL running. The master unblocks them once its handlers are installed.
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
REPLACE_WORKERS = signal.SIGUSR2
REPLACE_SECONDS = 60.0  # several workers may ask at once; after the first, requests are ignored for so long


def exit_on_stop_signals(code: int) -> None:
    """Lets this process exit with `code` on each of `STOP_SIGNALS`, so that it can undo what it has begun.

    A signal that is ignored stays so, because `nohup` has made SIGHUP ignored.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(code))


class MasterSignals:
    """The gateway's signal handlers in gunicorn's master process.

    Create this object before gunicorn sets its own handlers: afterwards nobody can see whether `nohup` has set SIGHUP
    to be ignored. If it has, SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self._ignores_hangups = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._is_draining = False
        self._replaced_at = -math.inf

    def install(self, master: Arbiter) -> None:
        """Replaces gunicorn's signal handlers in its master process by the gateway's own."""
        self._queue = master.SIG_QUEUE
        self._master = master
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        if self._ignores_hangups:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(REPLACE_WORKERS, self._replace_workers)

    def _stop(self, number: int, _frame: object) -> None:
        """Handles SIGTERM, SIGINT and SIGHUP in gunicorn's master: tells all workers to finish their calls and exit.

        A second SIGTERM or Ctrl-C cancels the calls in flight.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of one terminal may be reported more than once
        if self._is_draining and number == signal.SIGHUP:
            return
        self._queue.put_nowait(signal.SIGQUIT if self._is_draining else signal.SIGTERM)
        self._is_draining = True

    def _replace_workers(self, _number: int, _frame: object) -> None:
        """Handles SIGUSR2 in gunicorn's master: starts as many new workers as there are, and drains the old ones.

        The old workers finish their calls and exit. This is done at most once in `REPLACE_SECONDS`, because several
        workers may ask for it at the same time.
        """
        if time.monotonic() - self._replaced_at < REPLACE_SECONDS:
            return
        self._replaced_at = time.monotonic()
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # to gunicorn: one worker more; one worker less, the oldest
            for _ in range(self._master.num_workers):
                self._queue.put_nowait(number)


def unblock_stop_signals() -> None:
    """Unblocks the signals to stop (`STOP_SIGNALS`) in gunicorn's master, once the master's handlers are installed.

    `manage.py serve` blocked these signals before it became gunicorn. Those that came meanwhile are handled now.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def reset_in_new_worker(master: Arbiter, worker: Worker) -> None:
    """Removes the master's signal handlers from a worker process that has just been forked.

    Exits if the master received a signal to stop just after the fork: the worker has a copy of the queue with that
    signal, which nobody else reads.
    """
    for number in worker.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # gunicorn's base class will set SIGHUP to its default again, which ends the process. While SIGHUP is blocked, it
    # cannot end the worker before `init_signals` makes the worker ignore it again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    ignore_in_worker()
    while not master.SIG_QUEUE.empty():
        if master.SIG_QUEUE.get_nowait() in {signal.SIGTERM, signal.SIGQUIT}:
            sys.exit(0)


def ignore_in_worker() -> None:
    """Makes a worker ignore SIGINT and SIGHUP, which a terminal sends to the whole process group."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def handle_in_worker(drain: Callable[[], None], cancel: Callable[[], None]) -> None:
    """Makes the running event loop of a worker call the function `drain` at SIGTERM, and `cancel` at SIGQUIT."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGQUIT, cancel)
