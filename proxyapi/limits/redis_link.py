"""Owns the connection to Redis: what is asked at the same time goes together, and an answer is waited for only so long.

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

from proxyapi.limits.counting import Away

logger = logging.getLogger(__name__)

PATIENCE = 0.4  # seconds
SLICES = 8
REST_SECONDS = 3.0  # that a Redis which failed is left alone

T = TypeVar("T")


class RedisLink:
    """The Redis of one process. `away_since` is None while it answers."""

    def __init__(self, url: str) -> None:
        self.client = PipelinedRedis(url)
        self.away_since: datetime | None = None
        self._rested_at = 0.0

    @property
    def rested(self) -> bool:
        """Whether it may be probed."""
        return time.monotonic() >= self._rested_at

    async def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer.

        Raises:
            Away: there is none in time, or none is asked for.
        """
        if self.away_since is not None:
            raise Away
        try:
            return await question()
        except Exception as fault:  # the border: no call fails for what Redis does
            self._lost(fault)
            raise Away from fault

    async def probe(self, question: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Asks, also while it is away, and so finds out whether it still is."""
        try:
            await question()
        except Exception as fault:  # the border, as above
            self._lost(fault)
        else:
            if self.away_since is not None:
                logger.info("Redis is back: limits are shared again")
            self.away_since = None

    def _lost(self, fault: Exception) -> None:
        self._rested_at = time.monotonic() + REST_SECONDS
        if self.away_since is None:
            self.away_since = datetime.now(UTC)
            # Not its words: a URL could be in them.
            logger.warning("Redis is away, so each process counts limits for itself: %s", type(fault).__name__)


class PipelinedRedis(Redis):
    """A client on one connection: commands that come while others are on their way leave together, after them.

    So a thousand calls at once cost a few exchanges, and none of them waits for a connection.
    """

    def __init__(self, url: str) -> None:
        # Without retries, and without a time-out of its own: `_patiently` has the better clock.
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "protocol": 2}
        super().__init__(connection_pool=ConnectionPool.from_url(url, max_connections=2, **options))
        self._waiting: list[tuple[Any, Any, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises `redis.exceptions.RedisError`, OSError or TimeoutError."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((args, options, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def stop(self) -> None:
        """Nobody asks any more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        await self.aclose(close_connection_pool=True)

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipe = self.pipeline(transaction=False)
            for args, options, _ in batch:
                pipe.execute_command(*args, **options)
            try:
                answers = await _patiently(pipe.execute(raise_on_error=False))
            except Exception as fault:  # the border: whoever asked is told
                batch, self._waiting = batch + self._waiting, []
                answers = [fault] * len(batch)
            except asyncio.CancelledError:
                for _, _, answer in batch + self._waiting:
                    answer.cancel()
                raise
            for (_, _, answer), value in zip(batch, answers, strict=True):
                if answer.done():  # its caller has gone
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(value)
                else:
                    answer.set_result(value)


async def _patiently(question: Coroutine[Any, Any, T]) -> T:
    """The answer, if it comes in time.

    In slices: while this process stands still the time passes too, but nobody looks at the socket.

    Raises:
        TimeoutError: it does not.
    """
    asking = asyncio.create_task(question)
    try:
        for _ in range(SLICES):
            await asyncio.wait({asking}, timeout=PATIENCE / SLICES)
            if asking.done():
                return asking.result()
        raise TimeoutError
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking}, timeout=PATIENCE)
