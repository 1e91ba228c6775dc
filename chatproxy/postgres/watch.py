"""Owns the thread of gunicorn's master process that starts the bundled PostgreSQL again when it has been killed.

The master has the lock of the cluster, so nobody else starts it. What calls need meanwhile is in the journal.
"""

from __future__ import annotations

import logging
import signal
import threading
from subprocess import SubprocessError

from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.cluster import READY_WITHIN

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TRY_AGAIN_SECONDS = 5.0


class PostgresWatch:
    """`start` it in the process that stops the server in the end, and `stop` it before that."""

    def __init__(self, postgres: BundledPostgres) -> None:
        self._postgres = postgres
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postgres watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no start is under way: afterwards, a server that is stopped stays so."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(READY_WITHIN)

    def _run(self) -> None:
        # A signal that this thread took would reach the main thread only when its wait is over.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            try:
                is_running = self._postgres.running or self._start()
            except Exception:  # the border: without this thread a killed PostgreSQL would stay dead
                logger.exception("the bundled PostgreSQL could not be looked at")
                is_running = False
            pause = LOOK_SECONDS if is_running else TRY_AGAIN_SECONDS

    def _start(self) -> bool:
        logger.warning("the bundled PostgreSQL has ended, and is started again")
        unblocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())  # its programs inherit the mask
        try:
            self._postgres.revive()
        except (BundledPostgresError, OSError, SubprocessError) as error:
            logger.error("the bundled PostgreSQL does not start again: %s", error)
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        logger.info("the bundled PostgreSQL is back")
        return True
