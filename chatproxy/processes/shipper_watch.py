"""The part of gunicorn's master that starts the shipper, starts it again when it has ended, and ends it at last.

The shipper's standard input is a pipe into which nobody writes, its *lifeline*. The master and all workers have the
other end open, so the pipe ends when the last of them has ended, in whatever way. Then nothing more will be written to
the journals, so the shipper ships the rest and exits. The signals to stop are blocked in the shipper, because a
supervisor or a terminal sends them to all processes at once, and the shipper must outlive the calls in flight. The
signals that replace workers are blocked, too, because they would end it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from math import inf
from subprocess import Popen, TimeoutExpired

from chatproxy.configuration import setting_reader
from chatproxy.process_restarts import LOOK_SECONDS, KeepRunning
from chatproxy.processes.unix_signals import HELD_SIGNALS

logger = logging.getLogger(__name__)

STOP_SECONDS = 40.0  # more than the shipper takes to ship the rest (`chatproxy.processes.shipper_process`)
LONG_LIFE_SECONDS = 60.0  # a shipper that has lived so long is started again at once when it has died
LONGEST_PAUSE = 30.0

# A worker that is forked while `Popen` waits for the new process would hold that wait up for its whole life, because it
# has a copy of the pipe by which `Popen` learns whether the program runs.
_forking = threading.Lock()
os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release)


class ShipperWatch(KeepRunning):
    """The part of gunicorn's master that starts and ends the shipper; a thread starts it again whenever it has ended.

    The shipper is the process that copies the journals to the database. Create this object before the first worker is
    forked.
    """

    # The workers must inherit the pipe whose end tells the shipper that all of them have ended.
    def __init__(self) -> None:
        super().__init__("the shipper")
        self._lifeline, self._other_end = os.pipe()
        self._command = [sys.executable, "manage.py", "ship"]
        self._process: Popen[bytes] | None = None
        self._started_at = -inf
        self._pause = LOOK_SECONDS

    def start(self, *, reload: bool) -> None:
        """Starts the shipper and the thread that watches it; with `reload`, the shipper ends when its code changes."""
        if reload:
            self._command.append("--reload")
        self.start_again()
        self.watch()

    def stop(self) -> None:
        """Lets the shipper copy the records that are left in the journals to the database, and waits for its end.

        Kills a shipper that takes longer than `STOP_SECONDS`. Call this after all workers have ended.
        """
        self.end_watch(STOP_SECONDS)
        os.close(self._other_end)
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except TimeoutExpired:
            logger.warning("the shipper does not end, and is killed")
            # The rest of the journals is shipped after the next start.
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kills the shipper process, and starts no new one until `resume`.

        Nothing is lost: the next shipper copies the records that are left in the journals.
        """
        self.end_watch(STOP_SECONDS)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def resume(self) -> None:
        """Restarts the shipper and the thread that watches it, after `kill`."""
        self.start_again()
        self.watch()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start_again(self) -> float:
        """Starts the shipper; returns the seconds until the watching thread should check that the shipper is alive.

        This is `LOOK_SECONDS`; but if the shipper has ended within `LONG_LIFE_SECONDS` after its last start, it is
        twice as long as then, up to `LONGEST_PAUSE`. If the shipper cannot be started, an error is logged.
        """
        if self._process is not None:
            logger.warning(
                "the shipper has ended, and is started again; calls go on, and stay in the journal meanwhile"
            )
        is_long_ago = time.monotonic() - self._started_at > LONG_LIFE_SECONDS
        self._pause = LOOK_SECONDS if is_long_ago else min(self._pause * 2, LONGEST_PAUSE)
        self._started_at = time.monotonic()
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, HELD_SIGNALS | {signal.SIGQUIT})  # inherited
        try:
            with _forking:
                self._process = Popen(  # noqa: S603  (our own command, no shell)
                    self._command, cwd=setting_reader.BASE_DIR, stdin=self._lifeline
                )
        except OSError as error:
            logger.error("the shipper cannot be started: %s", error.strerror)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self._pause
