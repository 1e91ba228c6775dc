"""The thread of gunicorn's master that starts the bundled PostgreSQL again when it has been killed.

The master has the lock of the cluster, so no other process starts the server. Meanwhile calls go on, and their records
stay in the journal.
"""

from __future__ import annotations

import logging
import signal
import threading
from subprocess import SubprocessError

from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.cluster import READY_SECONDS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two checks of whether the server runs
TRY_AGAIN_SECONDS = 5.0  # after a failed start


class PostgresWatch:
    """The thread that starts the bundled PostgreSQL server again when it was killed.

    A process that wants to stop the server must stop this thread first.
    """

    def __init__(self, postgres: BundledPostgres) -> None:
        self._postgres = postgres
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postgres watch", daemon=True)

    def start(self) -> None:
        """Starts the thread that watches the PostgreSQL server and restarts a killed one."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread that watches the PostgreSQL server, and waits for a restart that is under way.

        After that, nothing starts a stopped server again.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(READY_SECONDS)

    def _run(self) -> None:
        """Checks every second whether the PostgreSQL server runs, and starts a dead one; ends after `stop`."""
        # If this thread received a signal, Python would handle it in the main thread, but only after that has waited.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            try:
                is_running = self._postgres.running or self._start()
            except Exception:  # the border: without this thread a killed PostgreSQL would stay dead
                logger.exception("the bundled PostgreSQL could not be checked")
                is_running = False
            pause = LOOK_SECONDS if is_running else TRY_AGAIN_SECONDS

    def _start(self) -> bool:
        """Starts a killed PostgreSQL server again, and returns whether that succeeded; logs the reason if not."""
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
