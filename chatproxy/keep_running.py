"""A thread of gunicorn's master that starts a process of the server again when it has ended."""

from __future__ import annotations

import logging
import signal
import threading
from abc import ABC, abstractmethod

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two checks of whether the process runs


class KeepRunning(ABC):
    """The thread that checks every second whether a process runs, and starts it again if it does not.

    A subclass says which process that is. `name` is that of the thread, and of the process in the log.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Starts the thread, which from then on checks every second whether the process runs.

        May be called again after `end_watch`.
        """
        self.stopping.clear()
        self._thread = threading.Thread(target=self._run, name=f"{self.name} watch", daemon=True)
        self._thread.start()

    def end_watch(self, seconds: float) -> None:
        """Stops the thread that checks the process, so that nothing starts the process again.

        Waits `seconds` at most for a start that is under way.
        """
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    @abstractmethod
    def is_running(self) -> bool:
        """Returns whether the watched process runs."""

    @abstractmethod
    def start_again(self) -> float:
        """Starts the watched process after it has ended; returns the seconds until the thread is to check it again."""

    def _run(self) -> None:
        # If this thread received a signal, Python would handle it in the main thread, but only after that has waited.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pause = LOOK_SECONDS
        while not self.stopping.wait(pause):
            try:
                pause = LOOK_SECONDS if self.is_running() else self.start_again()
            except Exception:  # the border: without this thread a killed process would stay dead
                logger.exception("%s could not be checked", self.name)
                pause = LOOK_SECONDS
