"""Owns the load of streams: clients that count events and know how late each is."""

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
    """One streamed call. `ended` is its whole end, or an exception if it broke off or was not answered with 200."""

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""  # of an event that has not arrived as a whole
        self.delays: list[float] = []  # milliseconds from upstream's write to here, one an event
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
    """`count` streams, all begun; they start evenly over `ramp` seconds."""
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
    return sum(len(stream.delays) for stream in opened)


def quantile(values: Sequence[float], share: float) -> float:
    """`share` of 1; the nearest of the values."""
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * share)]
