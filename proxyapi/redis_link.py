"""Owns the connections to Redis: how long an answer is waited for, and when none is asked for.

Invariant: whatever Redis does, or does not do, costs a call `PATIENCE` at most, and then, until Redis has answered a
probe, nothing at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

logger = logging.getLogger(__name__)

PATIENCE = 0.4  # seconds
REST_SECONDS = 3.0  # that a Redis which failed is left alone
QUESTIONS_AT_ONCE = 16

T = TypeVar("T")


class Away(Exception):
    """Redis is not to be had now."""


class RedisLink:
    """The Redis of one process. `away_since` is None while it answers."""

    def __init__(self, url: str) -> None:
        pool = ConnectionPool.from_url(
            url,
            max_connections=4 * QUESTIONS_AT_ONCE,
            socket_connect_timeout=PATIENCE,
            socket_timeout=None,  # `_patiently` is the clock: one that runs while the event loop does not is no measure
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self.client = Redis(connection_pool=pool)
        self.away_since: datetime | None = None
        self._rested_at = 0.0
        # Whoever waits for a turn waits for us, not for Redis.
        self._turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    @property
    def rested(self) -> bool:
        """Whether it may be probed."""
        return time.monotonic() >= self._rested_at

    async def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer.

        Raises:
            Away: there is none in time, or none is asked for.
        """
        async with self._turns:
            if self.away_since is not None:
                raise Away
            try:
                return await _patiently(question())
            except Exception as fault:  # the border: no call fails for what Redis does
                self._lost(fault)
                raise Away from fault

    async def probe(self, question: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Asks, also while it is away, and so finds out whether it still is."""
        try:
            await _patiently(question())
        except Exception as fault:  # the border, as above
            self._lost(fault)
        else:
            if self.away_since is not None:
                logger.info("Redis is back: limits are shared again")
            self.away_since = None

    async def close(self) -> None:
        await self.client.aclose(close_connection_pool=True)

    def _lost(self, fault: Exception) -> None:
        self._rested_at = time.monotonic() + REST_SECONDS
        if self.away_since is None:
            self.away_since = datetime.now(UTC)
            # Not its words: a URL could be in them.
            logger.warning("Redis is away, so each process counts limits for itself: %s", type(fault).__name__)


async def _patiently(question: Coroutine[Any, Any, T]) -> T:
    """The answer, if it comes in time; twice half of it, because after a standstill of ours the time is over before
    anybody has looked at the socket.
    """
    asking = asyncio.create_task(question)
    try:
        for _ in range(2):
            await asyncio.wait({asking}, timeout=PATIENCE / 2)
            if asking.done():
                return asking.result()
        raise TimeoutError
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking}, timeout=PATIENCE / 2)
