"""What relaying an event of a stream costs: microseconds of CPU, one event a chunk, on many streams at once.

Measured while all streams are open, so that their beginnings and ends are left out: those are a call's.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from bench.stand.load import Asked
from bench.stand.processes import cpu_of
from bench.stand.requests import streamed
from bench.stand.stand import Server
from bench.stand.streams import Stream, count_events, streams

STREAMS, RATE = 200, 50.0  # events a second on each
RAMP = 2.0  # seconds


class EventCost(NamedTuple):
    """`events_per_second` is what came: less than was asked for if the server is too slow."""

    cpu_us: float
    events_per_second: float


def measure(
    server: Server,
    path: str,
    seconds: float,
    slices: int = 1,
    count: int = STREAMS,
    rate: float = RATE,
    ramp: float = RAMP,
) -> list[EventCost]:
    """Of each slice of `seconds`."""
    return uvloop.run(_measure(server, path, seconds, slices, count, rate, ramp))


def middle(costs: Sequence[EventCost]) -> EventCost:
    """Of each figure, the median."""
    return EventCost(*(statistics.median(figure) for figure in zip(*costs, strict=True)))


async def _measure(
    server: Server, path: str, seconds: float, slices: int, count: int, rate: float, ramp: float
) -> list[EventCost]:
    """The streams are longer than needed, and broken off."""
    asked = Asked(server.url, streamed(path, server.key, int((seconds * slices + ramp + 30) * rate), rate))
    async with streams(asked, count, ramp) as opened:
        await asyncio.sleep(0.5)  # the beginning of the last
        return [await _slice(server, opened, seconds) for _ in range(slices)]


async def _slice(server: Server, opened: Sequence[Stream], seconds: float) -> EventCost:
    loop = asyncio.get_running_loop()
    events, cpu, start = count_events(opened), cpu_of(server.pids), loop.time()
    await asyncio.sleep(seconds)
    events, cpu, taken = count_events(opened) - events, cpu_of(server.pids) - cpu, loop.time() - start
    return EventCost(cpu / events * 1e6, events / taken)
