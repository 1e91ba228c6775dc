"""Counts the calls in flight of this process, limits them, and drains them when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import Overloaded, ShuttingDown

# When the server stops, a body that is still arriving has so much time left. Its call has not begun.
DRAINED_BODY_SECONDS = 5.0


class Capacity:
    """The calls in flight in this process. Used from the event loop only.

    `peak` is the highest number of them so far. `draining`: the server is stopping.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.peak = 0
        self.draining = False
        self._receiving: set[asyncio.Timeout] = set()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Occupies a slot for one call, from the moment its key is accepted to the last byte of its answer.

        Raises:
            Overloaded: `MAX_PARALLEL_REQUESTS` calls are in flight.
        """
        self.check_room()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def check_room(self) -> None:
        """Raises `Overloaded` if `MAX_PARALLEL_REQUESTS` calls are in flight."""
        if self.in_flight >= settings.MAX_PARALLEL_REQUESTS:
            raise Overloaded

    @contextmanager
    def receiving(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Registers the time limit of a body while it arrives. Draining shortens it to `DRAINED_BODY_SECONDS`."""
        if self.draining:
            self._hurry(timeout)
        self._receiving.add(timeout)
        try:
            yield
        finally:
            self._receiving.discard(timeout)

    def drain(self) -> None:
        """Refuses new calls from now on, because the server is stopping. Those that have begun go on."""
        self.draining = True
        for timeout in self._receiving:
            self._hurry(timeout)

    @staticmethod
    def _hurry(timeout: asyncio.Timeout) -> None:
        """Shortens the time limit of a body, if it is longer than `DRAINED_BODY_SECONDS`."""
        if timeout.expired():  # its task has not run since then; a timeout that has expired cannot be changed
            return
        deadline, drained_at = timeout.when(), asyncio.get_running_loop().time() + DRAINED_BODY_SECONDS
        if deadline is None or deadline > drained_at:
            timeout.reschedule(drained_at)

    def check_open(self) -> None:
        """Raises `ShuttingDown` while draining, for a call that has not gone upstream yet."""
        if self.draining:
            raise ShuttingDown


capacity = Capacity()
