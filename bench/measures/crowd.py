"""Measures very many streams at once on one worker: how many arrive complete, and how late their events are."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import NamedTuple

import uvloop

from bench.stand.load import PATIENCE, Asked
from bench.stand.requests import streamed
from bench.stand.stand import Server
from bench.stand.streams import quantile, streams

STREAMS, RATE, EVENTS = 2000, 2.0, 16  # of each stream: events a second, and events altogether
RAMP = 4.0  # seconds in which the streams start; each lasts 8 seconds, so all are open for 4


class Delays(NamedTuple):
    """How `streams` simultaneous streams went: how many of them were `completed`, and how late their events came.

    The percentiles `p50` and `p99` are of the milliseconds from upstream's write of an event to the client's read.
    """

    streams: int
    completed: int
    p50: float
    p99: float


def measure(server: Server, path: str, count: int = STREAMS, rate: float = RATE, events: int = EVENTS) -> Delays:
    """Opens `count` streams of a server at the same time, and returns how late their events arrived.

    Each stream has `events` events, `rate` a second.
    """
    return uvloop.run(_measure(Asked(server.url, streamed(path, server.key, events, rate)), count, events))


async def _measure(asked: Asked, count: int, events: int) -> Delays:
    async with streams(asked, count, RAMP) as opened:
        done, _ = await asyncio.wait([stream.ended for stream in opened], timeout=PATIENCE)
        whole = [stream for stream in opened if stream.ended in done and stream.ended.exception() is None]
        completed = sum(len(stream.delays) == events for stream in whole)
        delays = list(chain.from_iterable(stream.delays for stream in opened))
    return Delays(count, completed, quantile(delays, 0.5), quantile(delays, 0.99))
