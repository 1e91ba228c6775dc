"""Owns how much this process takes on at once: calls in flight, their limit, and draining."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import Overloaded, ShuttingDown

# A call whose body is still on its way has not begun; a stop waits only this long for it.
DRAINED_BODY_SECONDS = 5.0


class Capacity:
    """Counts the calls in flight in this process. Used from the event loop only."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.peak = 0
        self.draining = False
        self._receiving: set[asyncio.Timeout] = set()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One call's place, from the moment its key is accepted to the last byte of its answer.

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
    def receiving(self, patience: asyncio.Timeout) -> Iterator[None]:
        """While a body arrives; draining shortens its sender's time to `DRAINED_BODY_SECONDS` if it has more."""
        if self.draining:
            self._hurry(patience)
        self._receiving.add(patience)
        try:
            yield
        finally:
            self._receiving.discard(patience)

    def drain(self) -> None:
        """From now on no call begins; those that have begun go on."""
        self.draining = True
        for patience in self._receiving:
            self._hurry(patience)

    @staticmethod
    def _hurry(patience: asyncio.Timeout) -> None:
        if patience.expired():  # its task has not run since, and a time-out that has passed cannot be changed
            return
        deadline, drained_at = patience.when(), asyncio.get_running_loop().time() + DRAINED_BODY_SECONDS
        if deadline is None or deadline > drained_at:
            patience.reschedule(drained_at)

    def check_open(self) -> None:
        """Raises `ShuttingDown` once draining: calls already upstream go on, new ones do not start."""
        if self.draining:
            raise ShuttingDown


capacity = Capacity()
