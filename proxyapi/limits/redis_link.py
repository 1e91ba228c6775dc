"""The connection to Redis, which sends waiting commands together in batches, and waits a limited time for answers.

Invariant: a batch of commands fails after `ANSWER_SECONDS` without an answer. A call may send up to three commands in
turn, and each may have to wait for the batch before. After a failure, no call waits for Redis until Redis has answered
a probe.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxyapi.limits.limit_counters import CountersUnavailable
from usage.timeouts import result_within

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 0.4  # that the answers to a batch of commands may take
REST_SECONDS = 3.0  # from a failure of Redis to the next probe

T = TypeVar("T")


class RedisLink:
    """The connection of this process to Redis, which remembers whether Redis answers.

    `away_since` is the time at which an outage began; None while Redis answers.
    """

    def __init__(self, url: str) -> None:
        self.client = PipelinedRedis(url)
        self.away_since: datetime | None = None
        self._rested_at = 0.0

    @property
    def may_probe(self) -> bool:
        """True once `REST_SECONDS` have passed since the last failure of Redis, so that Redis may be probed again."""
        return time.monotonic() >= self._rested_at

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Runs `question`, a function that sends commands to Redis, and returns its result.

        Raises:
            CountersUnavailable: Redis failed, did not answer in time, or is known to be away. In the last case
                `question` is not run, so that no call waits.
        """
        if self.away_since is not None:
            raise CountersUnavailable
        try:
            return await question()
        except Exception as fault:  # the border: no call fails because of Redis
            self._record_failure(fault)
            raise CountersUnavailable from fault

    async def probe(self, question: Callable[[], Awaitable[None]]) -> None:
        """Runs `question`, a function that sends commands to Redis, even during an outage.

        A success ends the outage. A failure begins an outage, if there is none, and raises no error.
        """
        try:
            await question()
        except Exception as fault:  # the border: whatever the error is, limits are counted in this process meanwhile
            self._record_failure(fault)
        else:
            if self.away_since is not None:
                logger.info("Redis is back: limits are shared again")
            self.away_since = None

    def _record_failure(self, fault: Exception) -> None:
        """Records a failure of Redis: postpones the next probe, and begins an outage (with a warning) if there is none.

        Also logs an error if `fault` is a mistake in the gateway's own code.
        """
        self._rested_at = time.monotonic() + REST_SECONDS
        if not isinstance(fault, RedisError | OSError):
            # a bug of the gateway
            logger.error("limits could not be counted in Redis", exc_info=fault)
        if self.away_since is None:
            self.away_since = datetime.now(UTC)
            # Only the type: the error's text could contain a URL with a password.
            logger.warning("Redis is away, so each process counts limits for itself: %s", type(fault).__name__)


class PipelinedRedis(Redis):
    """A client of Redis that sends commands in batches, over one connection."""

    def __init__(self, url: str) -> None:
        # The client has no retries and no timeout: that of `_answers_of` allows for a process that stood still.
        options: dict[str, object] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "protocol": 2}
        super().__init__(connection_pool=ConnectionPool.from_url(url, max_connections=2, **options))
        # Commands that arrive while a batch is on its way form the next one. So a thousand simultaneous calls cost a
        # few round trips, and none of them waits for a connection.
        self._waiting: list[tuple[tuple[object, ...], dict[str, object], asyncio.Future[object]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def execute_command(self, *args: object, **options: object) -> object:
        """Sends a command to Redis in the next batch, and returns Redis's answer.

        Raises:
            redis.exceptions.RedisError, OSError, TimeoutError: Redis refused the command, failed, or answered too late.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((args, options, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def stop(self) -> None:
        """Stops the task that sends commands to Redis, cancels the commands that wait, and closes the connection."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        await self.aclose(close_connection_pool=True)

    async def _send_all(self) -> None:
        """Sends the waiting commands to Redis, batch after batch, until none is left; hands out the answers."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipe = self.pipeline(transaction=False)
            for args, options, _ in batch:
                pipe.execute_command(*args, **options)
            try:
                answers = await _answers_of(pipe.execute(raise_on_error=False))
            except Exception as fault:  # the border: each waiting command gets the error
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


async def _answers_of(question: Coroutine[object, None, T]) -> T:
    """Runs `question`, which sends a batch of commands to Redis, and returns Redis's answers.

    Raises:
        TimeoutError: no answers came within `ANSWER_SECONDS`; the batch was cancelled.
    """
    asking = asyncio.create_task(question)
    try:
        return await result_within(asking, ANSWER_SECONDS)
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking}, timeout=ANSWER_SECONDS)
