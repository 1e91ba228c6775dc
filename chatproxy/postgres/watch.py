"""The thread of gunicorn's master that restarts the bundled PostgreSQL if it was killed or has lost its socket.

The master has the lock of the cluster, so no other process starts the server. While PostgreSQL is away, calls go on,
and their records stay in the journal.
"""

from __future__ import annotations

import logging
import signal
from subprocess import SubprocessError

from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.cluster import READY_SECONDS
from chatproxy.process_restarts import LOOK_SECONDS, KeepRunning

logger = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 5.0  # after a failed start


class PostgresWatch(KeepRunning):
    """The thread that starts the bundled PostgreSQL server again when it was killed or has lost its socket."""

    # Programs that clean up temporary directories delete sockets; then the server runs, and nobody can connect to it.
    def __init__(self, postgres: BundledPostgres) -> None:
        super().__init__("the bundled PostgreSQL")
        self._postgres = postgres
        self._lacked_socket = False  # at the last look

    def stop(self) -> None:
        """Stops the thread that watches the PostgreSQL server, then the server itself; waits until both have ended."""
        self.end_watch(READY_SECONDS)
        self._postgres.stop()

    def is_running(self) -> bool:
        """Returns whether the PostgreSQL server runs and can be reached: False if it has ended or lacks its socket.

        A missing socket counts only if it was missing at the last call, too, since a server that is stopped by hand
        removes it shortly before its end.
        """
        if not self._postgres.running:
            return False
        lacked_socket, self._lacked_socket = self._lacked_socket, not self._postgres.has_socket
        return not (lacked_socket and self._lacked_socket)

    def start_again(self) -> float:
        reason = "has lost its socket" if self._postgres.running else "has ended"
        logger.warning("the bundled PostgreSQL %s, and is started again", reason)
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
