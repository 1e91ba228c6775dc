"""Measures the cost of relaying one event: microseconds of CPU, with one event per chunk, on many streams at once.

CPU is measured while all streams are open, because opening and ending a stream are parts of the cost of a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import uvloop

from bench.measures import calls
from bench.measures.rounds import in_turns, line
from bench.reporting.names import CHAT, EMPTY, SPACED
from bench.stand.load import Asked
from bench.stand.processes import cpu_of
from bench.stand.requests import plain, streamed
from bench.stand.stand import Server
from bench.stand.streams import Stream, count_events, streams

STREAMS, RATE = 200, 50.0  # the rate is events a second on each stream
RAMP = 1.0  # seconds in which the streams are opened
CALLS_OF_B = 400


class EventCost(NamedTuple):
    """The cost of relaying an event, in microseconds of the server's CPU, and how many events a second have arrived.

    If the server is too slow, fewer events arrive than upstream sends.
    """

    cpu_us: float
    events_per_second: float


class Subject(NamedTuple):
    """A benchmark: a server, and a path on which `streams` streams are opened at the same time.

    `what` describes it in the results. With `is_spaced`, upstream writes JSON with spaces.
    """

    server: Server
    path: str
    what: str
    is_spaced: bool = False
    streams: int = STREAMS


def subjects_of(server: Server, paths: Sequence[str]) -> Iterator[Subject]:
    """Yields a benchmark of a server's streams for each of `paths`.

    The path `SPACED` stands for `CHAT` with JSON that has spaces.
    """
    for path in paths:
        yield Subject(server, CHAT if path == SPACED else path, path, is_spaced=path == SPACED)


def lines(b: Server, subjects: Sequence[Subject], count: int, seconds: float = 2.0) -> Iterator[dict[str, Any]]:
    """Measures in `count` rounds the cost of an event in each server of `subjects`; yields lines for the results file.

    The first line has the cost of a whole call to `b`, an empty Django view, in the same rounds, for comparison.
    """
    measures = [partial(call_of, b), *(partial(measure_once, subject, seconds) for subject in subjects)]
    names = [(b.name, EMPTY), *((subject.server.name, subject.what) for subject in subjects)]
    for (server, what), found in zip(names, in_turns(measures, count), strict=True):
        yield line(server, what, found)


def call_of(b: Server) -> EventCost:
    """Measures the cost of a whole call to `b`, an empty Django view; returns it in the form of an event's cost."""
    cost = calls.measure(calls.Subject(b, EMPTY, plain(CHAT, b.key), calls=CALLS_OF_B))
    return EventCost(cost.cpu_ms * 1000, cost.calls_per_second)


def measure_once(subject: Subject, seconds: float) -> EventCost:
    """Opens the streams of `subject`, and measures for `seconds` the cost of relaying an event."""
    (cost,) = measure(subject.server, subject.path, seconds, count=subject.streams, is_spaced=subject.is_spaced)
    return cost


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
    """Opens `count` streams of a server, and measures the cost of an event `slices` times, for `seconds` each.

    Returns a cost for each slice. `rate`: events a second on each stream; `ramp`: seconds in which the streams are
    opened. With `is_spaced`, upstream writes JSON with spaces.
    """
    # More events than are needed, so that none ends while CPU is measured.
    events = int((seconds * slices + ramp + 30) * rate)
    asked = Asked(server.url, streamed(path, server.key, events, rate, is_spaced=is_spaced))
    return uvloop.run(_measure(server, asked, seconds, slices, count, ramp))


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
    """Counts for `seconds` the events on all streams and the server's CPU; returns the cost of an event."""
    loop = asyncio.get_running_loop()
    events, cpu, start = count_events(opened), cpu_of(server.pids), loop.time()
    await asyncio.sleep(seconds)
    events, cpu, taken = count_events(opened) - events, cpu_of(server.pids) - cpu, loop.time() - start
    return EventCost(cpu / events * 1e6, events / taken)
