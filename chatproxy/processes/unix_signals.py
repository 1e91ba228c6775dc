"""What each signal does to gunicorn's master and to its workers.

    signal             sent to the master                        sent to a worker
    SIGTERM            drains; a later one ends the wait of      drains
                       DRAIN_SECONDS or, if there is none or
                       it is over, cancels
    SIGINT (Ctrl-C)    the first drains without the wait; a      is ignored
                       later one cancels
    SIGHUP             drains without the wait, however often    is ignored
                       it comes
    SIGQUIT            cancels (gunicorn's own handler)          cancels
    SIGUSR1            replaces all workers (`REPLACE_WORKERS`)  is ignored
    SIGUSR2            starts the code that is now on the disk   is ignored

*Draining*: for DRAIN_SECONDS everything is served as before, but each answer ends its connection, and `/readyz` has
status 503, so that a load balancer sends its calls elsewhere. Then there are no new connections, accepted calls are
finished, the ledger is written, the process exits. *Cancelling*: the same without the wait, and calls in flight are
cancelled. `chatproxy.processes.draining_server` does both. `chatproxy.processes.upgrade` does what the last two signals
ask for.

Signals may reach all processes at once: Ctrl-C and the end of a terminal reach the whole process group, and supervisors
can send any. So a worker ignores the signals on which only the master decides; it reacts to SIGTERM and SIGQUIT. The
shipper blocks all of them, and ends after the workers (`chatproxy.processes.shipper_watch`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import mmap
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
REPLACE_WORKERS, UPGRADE = signal.SIGUSR1, signal.SIGUSR2
REPLACEMENT_SIGNALS = frozenset({REPLACE_WORKERS, UPGRADE})
# `manage.py serve` blocks these signals before it becomes gunicorn. Otherwise one that comes in between would be lost,
# or would leave the bundled PostgreSQL running. The master unblocks them once its handlers are installed.
HELD_SIGNALS = STOP_SIGNALS | REPLACEMENT_SIGNALS


class StopMoment:
    """The time `at` when the workers of a stopping server close its port, in memory that the server's processes share.

    `at` is a time of `time.monotonic()`; infinite while the server is not stopping.
    """

    # A worker cannot tell from SIGTERM whether it alone is to end, or the server. It inherits this memory from the
    # master.
    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, 8)).cast("d")
        self.at = math.inf

    @property
    def at(self) -> float:
        return self._memory[0]

    @at.setter
    def at(self, moment: float) -> None:
        self._memory[0] = moment


stop_moment = StopMoment()  # made when the master loads this module, before it forks a worker


def exit_on_stop_signals(code: int) -> None:
    """Makes this process raise SystemExit with `code` on any of `STOP_SIGNALS`, so that it can undo what it has begun.

    A signal that the process ignores, as `nohup` makes it ignore SIGHUP, stays ignored.
    """
    for number in STOP_SIGNALS:
        # The command `nohup` starts processes that ignore SIGHUP.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(code))


class MasterSignals:
    """The gateway's signal handlers in gunicorn's master process.

    Create this object before gunicorn sets its own handlers. `drain_seconds` is the setting DRAIN_SECONDS.
    """

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        # Afterwards nobody can see whether `nohup` has set SIGHUP to be ignored. If so, it stays ignored.
        self._ignores_hangups = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

    def install(self, master: Arbiter) -> None:
        """Replaces gunicorn's signal handlers in its master process by the gateway's own.

        A SIGHUP that was ignored when this object was created, as `nohup` makes it, stays ignored.
        """
        self._queue = master.SIG_QUEUE
        master.handle_hup = self._hang_up
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        if self._ignores_hangups:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _stop(self, number: int, _frame: object) -> None:
        """Handles SIGTERM, SIGINT and SIGHUP in gunicorn's master: tells all workers to finish their calls and exit.

        After SIGTERM the port stays open for DRAIN_SECONDS; after the others it is closed at once. A second SIGTERM or
        SIGINT closes an open port at once; if the port is closed, it cancels the calls. A later SIGHUP does nothing.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of one terminal may be reported more than once
        now = time.monotonic()
        if stop_moment.at == math.inf:
            # After SIGTERM the port stays open for DRAIN_SECONDS, so that load balancers learn of it.
            stop_moment.at = now + (self._drain_seconds if number == signal.SIGTERM else 0)
            self._queue.put_nowait(signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)
        elif number != signal.SIGHUP and stop_moment.at > now:
            stop_moment.at = now
        elif number != signal.SIGHUP:
            self._queue.put_nowait(signal.SIGQUIT)

    def _hang_up(self) -> NoReturn:
        """Ends the server after SIGHUP; without this, gunicorn would reload its workers instead.

        Raises:
            StopIteration: always; gunicorn's main loop ends the server at this error.
        """
        logger.warning("SIGHUP ends this server, as the end of a terminal does; it reloads nothing")
        raise StopIteration  # as gunicorn's handler of SIGTERM does


def unblock_signals() -> None:
    """Unblocks the signals in `HELD_SIGNALS` in gunicorn's master, after the master's handlers were installed.

    Signals that came meanwhile are handled now.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)


def reset_in_new_worker(master: Arbiter, worker: Worker) -> None:
    """Removes the master's signal handlers from a worker process that has just been forked.

    The worker ignores the signals on which only the master decides. Ends the process if the master had just received a
    signal to stop.
    """
    # The default action of these signals ends the process, and is set here, and again by gunicorn's base class. While
    # they are blocked, they cannot end the worker before `init_signals` makes the worker ignore them again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, *REPLACEMENT_SIGNALS})
    for number in worker.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    ignore_in_worker()
    # The worker has a copy of the queue with that signal, which nobody else reads.
    while not master.SIG_QUEUE.empty():
        if master.SIG_QUEUE.get_nowait() in {*STOP_SIGNALS, signal.SIGQUIT}:
            sys.exit(0)


def ignore_in_worker() -> None:
    """Makes a worker ignore SIGINT, SIGHUP, SIGUSR1 and SIGUSR2, on which only the master decides."""
    for number in (signal.SIGINT, signal.SIGHUP, *REPLACEMENT_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def handle_in_worker(drain: Callable[[], None], cancel: Callable[[], None]) -> None:
    """Makes the event loop of a worker call `drain` at SIGTERM, and `cancel` at SIGQUIT."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGQUIT, cancel)
