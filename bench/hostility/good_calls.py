"""Owns the calls of a good caller while somebody attacks: how many, how fast, and how many fail.

Unlike `bench.stand.load` a failure does not end the run: it is what is counted. Calls at a fixed rate are timed from
when they should have begun, so a server that stands still is seen in every call that it kept waiting; each tenth one is
on a new connection, as a new client's is.
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
CONNECTIONS = 8  # of the calls that go as fast as they can
NEW_EVERY = 10
PATIENCE = 10.0  # seconds after which a call has failed
BACKOFF = 0.05  # seconds before the next call of whoever's call has failed


class Good(NamedTuple):
    """Milliseconds at `RATE`; calls a second as fast as it goes; failures of both."""

    p50: float
    p99: float
    calls_per_second: float
    failed: int


class Trying(Caller):
    """A connection whose calls may fail."""

    def __init__(self) -> None:
        super().__init__(lambda _: self._settle(True))
        self.failed.add_done_callback(self._has_failed)
        self._call: asyncio.Future[bool] | None = None

    async def call(self, request: bytes) -> bool:
        """Whether the call was answered with 200."""
        if self.transport.is_closing():  # by the server, before there was a call
            return False
        self._call = asyncio.get_running_loop().create_future()
        self.send(request)
        try:
            return await asyncio.wait_for(self._call, PATIENCE)
        except TimeoutError:
            return False

    def _has_failed(self, failed: asyncio.Future[None]) -> None:
        if not failed.cancelled():
            failed.exception()  # taken: nobody else asks for it
            self.transport.close()
            self._settle(False)

    def _settle(self, is_good: bool) -> None:
        if self._call is not None and not self._call.done():
            self._call.set_result(is_good)


class Pool:
    """The good caller's connections."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._idle: list[Trying] = []
        self._all: list[Trying] = []
        self.failed = 0

    async def call(self, *, anew: bool = False) -> bool:
        """One call on an idle connection or on a new one; a connection that has failed is not used again."""
        connection = None if anew else self._take()
        try:
            connection = connection or await self._connect()
            is_good = await connection.call(self._asked.request)
        except OSError:  # a TimeoutError is one
            is_good = False
        if is_good and connection is not None:
            self._idle.append(connection)
        self.failed += not is_good
        return is_good

    def _take(self) -> Trying | None:
        """An idle connection that the server has not closed meanwhile, if there is one."""
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
    """Half of `seconds` at the fixed rate, half as fast as it goes."""
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
    start = time.perf_counter()  # the loop's own clock counts milliseconds
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
    """How many calls were answered in time."""
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
