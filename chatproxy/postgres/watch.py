"""The thread of gunicorn's master that starts the bundled PostgreSQL again when it has been killed.

The master has the lock of the cluster, so no other process starts the server. Meanwhile calls go on, and their records
stay in the journal.
"""

from __future__ import annotations

import logging
import signal
from subprocess import SubprocessError

from chatproxy.keep_running import LOOK_SECONDS, KeepRunning
from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.cluster import READY_SECONDS

logger = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 5.0  # after a failed start


class PostgresWatch(KeepRunning):
    """The thread that starts the bundled PostgreSQL server again when it was killed."""

    def __init__(self, postgres: BundledPostgres) -> None:
        super().__init__("the bundled PostgreSQL")
        self._postgres = postgres

    def stop(self) -> None:
        """Stops the thread that watches the PostgreSQL server, then the server, and waits until both have ended."""
        self.end_watch(READY_SECONDS)
        self._postgres.stop()

    def is_running(self) -> bool:
        return self._postgres.running

    def start_again(self) -> float:
        logger.warning("the bundled PostgreSQL has ended, and is started again")
        unblocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())  # its programs inherit the mask
        try:
            self._postgres.revive()
        except (BundledPostgresError, OSError, SubprocessError) as error:
            logger.error("the bundled PostgreSQL does not start again: %s", error)
            return TRY_AGAIN_SECONDS
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        logger.info("the bundled PostgreSQL is back")
        return LOOK_SECONDS
