"""What it costs to relay one event of a stream: microseconds of CPU, one event a chunk, on many streams at once.

CPU is measured while all streams are open, because opening and ending a stream are parts of the cost of a call.
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

STREAMS, RATE = 200, 50.0  # the rate is events a second on each stream
RAMP = 2.0  # seconds in which the streams are opened


class EventCost(NamedTuple):
    """Cost of relaying an event, in microseconds of the server's CPU, and how many events a second have arrived.

    Fewer arrive than upstream sends if the server is too slow.
    """

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
    *,
    is_spaced: bool = False,
) -> list[EventCost]:
    """Opens `count` streams of a server and measures the cost of an event, `slices` times for `seconds` each.

    Returns a cost for each slice. `rate`: events a second on each stream; `ramp`: seconds in which the streams are
    opened. With `is_spaced`, upstream writes JSON with spaces.
    """
    # More events than are needed, so that none ends while CPU is measured.
    events = int((seconds * slices + ramp + 30) * rate)
    asked = Asked(server.url, streamed(path, server.key, events, rate, is_spaced=is_spaced))
    return uvloop.run(_measure(server, asked, seconds, slices, count, ramp))


def middle(costs: Sequence[EventCost]) -> EventCost:
    """Returns the median of several costs of an event, taken for each of their two figures separately."""
    return EventCost(*(statistics.median(figure) for figure in zip(*costs, strict=True)))


async def _measure(
    server: Server, asked: Asked, seconds: float, slices: int, count: int, ramp: float
) -> list[EventCost]:
    """Opens streams, measures the cost of an event in several slices of time, and closes the streams before their end.

    Returns a cost for each slice.
    """
    async with streams(asked, count, ramp) as opened:
        await asyncio.sleep(0.5)  # until the beginning of the last stream is over
        return [await _slice(server, opened, seconds) for _ in range(slices)]


async def _slice(server: Server, opened: Sequence[Stream], seconds: float) -> EventCost:
    """Counts the events that arrive on all streams in `seconds`, and the server's CPU; returns the cost of an event."""
    loop = asyncio.get_running_loop()
    events, cpu, start = count_events(opened), cpu_of(server.pids), loop.time()
    await asyncio.sleep(seconds)
    events, cpu, taken = count_events(opened) - events, cpu_of(server.pids) - cpu, loop.time() - start
    return EventCost(cpu / events * 1e6, events / taken)
