"""Owns how long a client may take none of what it is sent: then its connection is aborted.

A clock runs only while there are more bytes to send than the socket takes, so an ordinary call pays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

STALL_SECONDS = 60.0
CHECKS = 6  # within STALL_SECONDS
# Whoever has shown no good key must take its answer at this speed, or somebody's memory would be held for nothing.
MIN_STRANGER_BYTES_PER_SECOND = 1024


class Transport(Protocol):
    def get_write_buffer_size(self) -> int:
        """How many bytes the socket has not taken yet."""

    def abort(self) -> None:
        """Closes the connection at once; bytes that have not left are lost."""


class StallWatch:
    """Watches the bytes that a transport still has to send; aborts it when nobody takes them.

    `least_speed` returns the bytes a second below which taking counts for nothing; `aborted` is called with an abort.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        least_speed: Callable[[], float],
        aborted: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._least_speed = least_speed
        self._aborted = aborted
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when the size was this
        self._size = 0

    def start(self) -> None:
        """Begins to watch, if it does not yet."""
        if self._timer is None:
            self._mark()
            self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget_callbacks(self) -> None:
        """Stops, and drops the callbacks: they refer to the connection that owns this watch, and has been lost."""
        self.stop()
        self._least_speed = lambda: 0.0
        self._aborted = lambda: None

    def _mark(self) -> None:
        self._since = self._loop.time()
        self._size = self._transport.get_write_buffer_size()

    def _schedule(self) -> None:
        self._timer = self._loop.call_later(STALL_SECONDS / CHECKS, self._check)

    def _check(self) -> None:
        waited = self._loop.time() - self._since
        taken = self._size - self._transport.get_write_buffer_size()
        if taken > 0 and taken >= waited * self._least_speed():
            self._mark()
        elif waited >= STALL_SECONDS:
            self._timer = None
            self._aborted()
            self._transport.abort()
            return
        self._schedule()
