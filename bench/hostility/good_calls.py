"""Measures the calls of a well-behaved client during an attack: how many succeed, how fast, and how many fail.

Unlike in `bench.stand.load`, a failed call does not end the run but is counted. Calls at a fixed rate are timed from
the moment when they should have begun, so that a pause of the server shows in every call that it delays. Every tenth of
these calls is made on a new connection, like that of a new client.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import uvloop

from bench.stand.load import Asked, Caller
from bench.stand.requests import address
from bench.stand.streams import quantile

RATE = 100.0  # calls a second
CONNECTIONS = 8  # that call as fast as answers come
NEW_EVERY = 10  # of as many calls at the fixed rate, one is made on a new connection
PATIENCE = 10.0  # seconds after which a call has failed
BACKOFF = 0.05  # seconds that a connection's next call waits after a failed one


class Good(NamedTuple):
    """The result of measuring the calls of a well-behaved client.

    `p50` and `p99`: percentiles of the latency, in milliseconds, at `RATE` calls a second. `calls_per_second`: how many
    succeed when each connection sends its next call at once. `failed`: how many calls failed in both parts of the
    measure.
    """

    p50: float
    p99: float
    calls_per_second: float
    failed: int


class Trying(Caller):
    """A client connection that makes one call at a time; a failed call gives False, and the benchmark goes on."""

    def __init__(self) -> None:
        super().__init__(lambda _: self._settle(True))
        self.failed.add_done_callback(self._end_failed_call)
        self._call: asyncio.Future[bool] | None = None

    async def call(self, request: bytes) -> bool:
        """Sends a request on this connection, waits for the answer, and returns whether its status was 200.

        Returns False as well if the connection fails, or if no answer comes within `PATIENCE` seconds.
        """
        if self.transport.is_closing():  # the server closed the connection before the call
            return False
        self._call = asyncio.get_running_loop().create_future()
        self.send(request)
        try:
            return await asyncio.wait_for(self._call, PATIENCE)
        except TimeoutError:
            return False

    def _end_failed_call(self, failed: asyncio.Future[None]) -> None:
        """Closes the connection after a failure, and makes the call that waits on it return False.

        A failure is the loss of the connection, or an answer with another status than 200.
        """
        if not failed.cancelled():
            failed.exception()  # marks the exception as retrieved, else asyncio logs it
            self.transport.close()
            self._settle(False)

    def _settle(self, is_good: bool) -> None:
        """Makes the call that waits on this connection, if any, return whether it succeeded."""
        if self._call is not None and not self._call.done():
            self._call.set_result(is_good)


class Pool:
    """The connections of a well-behaved client to one server, used again and again, and the number of failed calls."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._idle: list[Trying] = []
        self._all: list[Trying] = []
        self.failed = 0

    async def call(self, *, anew: bool = False) -> bool:
        """Makes one call, on an idle connection or a new one, and returns whether it succeeded.

        With `anew` it always opens a new connection. A connection whose call has failed is not used again.
        """
        connection = None if anew else self._take()
        try:
            connection = connection or await self._connect()
            is_good = await connection.call(self._asked.request)
        except OSError:  # TimeoutError is a subclass
            is_good = False
        if is_good and connection is not None:
            self._idle.append(connection)
        self.failed += not is_good
        return is_good

    def _take(self) -> Trying | None:
        """Takes an idle connection that is still open out of the pool and returns it; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> Trying:
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(Trying, *address(self._asked.url))
        _, connection = await asyncio.wait_for(opening, PATIENCE)
        self._all.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self._all:
            connection.failed.cancel()
            connection.transport.close()
        await asyncio.sleep(0)


def measure(asked: Asked, seconds: float) -> Good:
    """Makes the calls of a well-behaved client for `seconds`, and returns what was measured.

    In the first half of the time it calls at a fixed rate, in the second as fast as answers come.
    """
    return uvloop.run(_measure(asked, seconds / 2))


async def _measure(asked: Asked, seconds: float) -> Good:
    pool = Pool(asked)
    try:
        latencies = await at_fixed_rate(pool, seconds)
        calls = await as_fast_as_it_goes(pool, seconds)
        return Good(quantile(latencies, 0.5), quantile(latencies, 0.99), calls / seconds, pool.failed)
    finally:
        await pool.close()


async def at_fixed_rate(pool: Pool, seconds: float) -> list[float]:
    """Makes `RATE` calls a second, and returns the latency of each in milliseconds.

    The latency of a call that has failed counts as `PATIENCE` seconds.
    """
    start = time.perf_counter()  # uvloop's own clock counts whole milliseconds only
    latencies: list[float] = []

    async def one(number: int) -> None:
        due = start + number / RATE
        is_good = await pool.call(anew=number % NEW_EVERY == 0)
        latencies.append((time.perf_counter() - due if is_good else PATIENCE) * 1000)

    async with asyncio.TaskGroup() as calls:
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(start + number / RATE - time.perf_counter())
            calls.create_task(one(number))
    return latencies


async def as_fast_as_it_goes(pool: Pool, seconds: float) -> int:
    """Makes calls on `CONNECTIONS` connections at once, for a time; returns how many succeeded.

    Each connection sends its next call as soon as the last is answered.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while loop.time() < end:
            if not await pool.call():
                await asyncio.sleep(BACKOFF)
            elif loop.time() < end:
                answered += 1

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return answered
