"""Owns how much this process takes on at once: calls in flight, their limit, and draining."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import Overloaded, ShuttingDown


class Capacity:
    """Counts the calls in flight in this process. Used from the event loop only."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.peak = 0
        self.draining = False

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One call's place, from its first byte to the last byte of its answer.

        Raises:
            Overloaded: `MAX_PARALLEL_REQUESTS` calls are in flight.
        """
        if self.in_flight >= settings.MAX_PARALLEL_REQUESTS:
            raise Overloaded
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def check_open(self) -> None:
        """Raises `ShuttingDown` once draining: calls already upstream go on, new ones do not start."""
        if self.draining:
            raise ShuttingDown


capacity = Capacity()
