"""A thread of gunicorn's master that watches a process of the server, and starts it again when it has ended."""

from __future__ import annotations

import logging
import signal
import threading
from abc import ABC, abstractmethod

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two checks of whether the process runs


class KeepRunning(ABC):
    """Base class of a thread that checks a process every second, and starts it again if it has ended.

    `name` is the name of the thread, and of the process in the log.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Starts the thread, which starts the process again whenever it has ended; also after `end_watch`."""
        self.stopping.clear()
        self._thread = threading.Thread(target=self._run, name=f"{self.name} watch", daemon=True)
        self._thread.start()

    def end_watch(self, seconds: float) -> None:
        """Stops the thread that watches the process, so that nothing starts the process again.

        If a start is under way, waits for its end, but at most `seconds`.
        """
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    @abstractmethod
    def is_running(self) -> bool:
        """Returns whether the process that this thread watches runs."""

    @abstractmethod
    def start_again(self) -> float:
        """Starts the watched process again after its end; returns how many seconds to wait before the next check."""

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
