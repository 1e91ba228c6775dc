"""The base class of the shipper's threads that repeat some work: delete old data, update prices, look for faults."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from django.db import Error, connections

from usage.database.fault_words import is_explained


class PeriodicThread(ABC):
    """A daemon thread that calls `work` after `first_seconds`, and again every `every_seconds`, until it is stopped.

    No error ends the thread. An outage of the database, or another error of it whose meaning is known (`is_explained`),
    is ignored, because another thread of the process reports it; any other error is logged with the text `failure`. The
    thread's database connections are closed after each call of `work`.
    """

    name: str
    first_seconds: float
    every_seconds: float
    stop_seconds: float  # how long `stop` waits for the thread's end
    failure: str  # such as "prices were not updated, and are again in an hour"

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to stop, and waits at most `stop_seconds`; a thread that hangs is left running."""
        self.stopping.set()
        if self.is_running:
            self._thread.join(self.stop_seconds)

    @abstractmethod
    def work(self) -> None:
        """Does the thread's periodic work once; subclasses implement it.

        Long work should end early once the event `stopping` is set.
        """

    def finish(self) -> None:  # noqa: B027  (most threads have nothing left to do)
        """Does the thread's last work, after it was asked to stop; does nothing unless a subclass implements it."""

    def _run(self) -> None:
        pause = self.first_seconds
        while not self.stopping.wait(pause):
            pause = self.every_seconds
            self.work_once()
        self.finish()

    def work_once(self) -> None:
        """Calls `work` once, then closes the database connections; logs errors, except for outages of the database."""
        try:
            try:
                self.work()
            finally:
                connections.close_all()
        except Exception as error:  # the border: without this thread the work would not be done until the next start
            if not (isinstance(error, Error) and is_explained(error)):
                logging.getLogger(type(self).__module__).exception(self.failure)
