"""Aborts the connection of a client that has read too little of its answer for `STALL_SECONDS`.

A timer runs only while the socket does not accept all bytes of an answer, so most calls have no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

STALL_SECONDS = 60.0
CHECKS_PER_STALL = 6  # how often a client is checked within STALL_SECONDS
# A client that has sent no valid key must read its answer at this speed at least, or the answer would fill memory.
MIN_STRANGER_BYTES_PER_SECOND = 1024


class WritableTransport(Protocol):
    """Interface of the asyncio transport that `StallWatch` needs to watch a slow client."""

    def get_write_buffer_size(self) -> int:
        """Returns how many bytes of the answer the socket has not accepted yet."""

    def abort(self) -> None:
        """Closes the client connection at once; unsent bytes are lost."""


class StallWatch:
    """Watch over one client that reads an answer; aborts the connection if the client reads too slowly.

    `least_speed` returns how many bytes a second the client must read. `aborted` is called before the connection is
    aborted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: WritableTransport,
        least_speed: Callable[[], float],
        aborted: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._least_speed = least_speed
        self._aborted = aborted
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when the write buffer had `_size` bytes, on the event loop's clock
        self._size = 0

    def start(self) -> None:
        """Starts the timer that checks whether the client reads its answer, unless it runs already."""
        if self._timer is None:
            self._mark()
            self._schedule()

    def stop(self) -> None:
        """Stops the timer that checks whether the client reads its answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget_callbacks(self) -> None:
        """Stops the timer and drops the callbacks of a lost connection, so that its memory is freed at once."""
        # The callbacks refer to the connection, which refers to this watch: a cycle that would keep both in memory.
        self.stop()
        self._least_speed = lambda: 0.0
        self._aborted = lambda: None

    def _mark(self) -> None:
        """Stores the present size of the write buffer and the time, to measure the client's speed from them later."""
        self._since = self._loop.time()
        self._size = self._transport.get_write_buffer_size()

    def _schedule(self) -> None:
        """Sets the timer for the next check whether the client reads its answer fast enough."""
        self._timer = self._loop.call_later(STALL_SECONDS / CHECKS_PER_STALL, self._check)

    def _check(self) -> None:
        """Aborts the connection if the client has read nothing, or read too slowly, for `STALL_SECONDS`.

        The timer calls this several times in that period. Once the client has read enough, the period begins anew.
        """
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
