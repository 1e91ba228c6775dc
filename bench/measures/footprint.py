"""Measures the server's memory and CPU: when idle, with many open streams without events, and after many calls."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import uvloop

from bench.stand.load import Asked, closed_loop
from bench.stand.processes import cpu_of, memory
from bench.stand.requests import plain, streamed
from bench.stand.stand import Server, Stand
from bench.stand.streams import streams

IDLE_STREAMS = 1000
HOUR_OF_CALLS = 20_000


class Idle(NamedTuple):
    """The resources that all processes of the gateway use while nobody calls.

    They are the memory of the gateway and of PostgreSQL in MiB, and the CPU of both in percent of a core.
    """

    gateway_mb: float
    postgres_mb: float
    cpu_percent: float


class Growth(NamedTuple):
    """The memory of the gateway in MiB, before and after an event such as many calls, and the difference (`more`)."""

    before: float
    after: float
    more: float


def idle(stand: Stand, seconds: float) -> Idle:
    """Waits for `seconds` in which nobody calls the gateway, and returns what its processes and PostgreSQL used."""
    cpu, start = cpu_of([*stand.server.pids, *stand.postgres]), time.perf_counter()
    time.sleep(seconds)  # nothing to wait for: the gateway is measured while it idles
    cpu, taken = cpu_of([*stand.server.pids, *stand.postgres]) - cpu, time.perf_counter() - start
    return Idle(memory(stand.server.pids), memory(stand.postgres), 100 * cpu / taken)


def open_streams(server: Server, path: str) -> Growth:
    """Measures the memory of a gateway before and with 1,000 open streams, each of which has had its first event.

    It answers some calls before, like a server in use, so that code which the first calls load is not counted.
    """
    closed_loop(Asked(server.url, plain("/v1/chat/completions", server.key)), 500)
    return uvloop.run(_open_streams(server, path))


async def _open_streams(server: Server, path: str) -> Growth:
    before = memory(server.pids)
    async with streams(Asked(server.url, streamed(path, server.key, 2, 0.01)), IDLE_STREAMS, 4.0) as opened:
        await asyncio.sleep(3.0)  # until the first events have come, and memory that opening needed is free again
        assert all(stream.delays for stream in opened)
        return growth(before, server)


def after_calls(stand: Stand, calls: int = HOUR_OF_CALLS) -> Growth:
    """Measures the memory of a gateway before and after `calls` chat and embeddings calls, once the ledger has them."""
    server, known = stand.server, stand.counted()
    before = memory(server.pids)
    for path in ("/v1/chat/completions", "/openai", "/embeddings", "/v1/embeddings"):
        closed_loop(Asked(server.url, plain(path, server.key)), calls // 4)
    stand.wait_for(known + calls)
    return growth(before, server)


def growth(before: float, server: Server) -> Growth:
    """Measures the memory of a server now, and returns it together with its memory `before` (MiB)."""
    after = memory(server.pids)
    return Growth(before, after, after - before)
