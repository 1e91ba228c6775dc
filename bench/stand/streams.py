"""The clients for streams, which count the events that arrive and measure how late each one is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.stand.load import Asked
from bench.stand.requests import address

STAMP = re.compile(rb'"(?:content|delta)": ?"(\d+)"')


class Stream(asyncio.Protocol):
    """One client's call with a streamed answer, on a connection of its own; it measures how late each event arrives.

    The future `began` is done once the answer has begun. The future `ended` is done once all of it has arrived; it has
    an exception if the stream broke off or the status was not 200.
    """

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""  # the beginning of an event whose end has not arrived
        self.delays: list[float] = []  # milliseconds from upstream's write of an event to its arrival here
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self._rest + data
        if not self.began.done():
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data)
                return
            self.began.set_result(None)
        whole, separator, self._rest = data.rpartition(b"\n\n")
        if separator:
            self.delays += [(now - int(stamp)) / 1e6 for stamp in STAMP.findall(whole)]
        if self._rest.endswith(b"0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(b"connection lost")

    def _fail(self, why: bytes) -> None:
        for future in (self.began, self.ended):
            if not future.done():
                future.set_exception(ConnectionError(why[:2000].decode(errors="replace")))


@asynccontextmanager
async def streams(asked: Asked, count: int, ramp: float) -> AsyncIterator[list[Stream]]:
    """Opens `count` streams, spread over `ramp` seconds, and yields them once all have begun.

    Closes them when the `with` block ends.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    opened: list[Stream] = []
    try:
        for number in range(count):
            await asyncio.sleep(start + ramp * number / count - loop.time())
            _, stream = await loop.create_connection(lambda: Stream(asked.request), *address(asked.url))
            opened.append(stream)
        await asyncio.gather(*(stream.began for stream in opened))
        yield opened
    finally:
        for stream in opened:
            stream.transport.close()
            stream.ended.cancel()


def count_events(opened: Sequence[Stream]) -> int:
    """Returns the number of events that have arrived on all these streams until now."""
    return sum(len(stream.delays) for stream in opened)


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the value below which the given share of the values lies; a share of 0.5 gives the median.

    It is always one of the values: the nearest one.
    """
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * share)]
