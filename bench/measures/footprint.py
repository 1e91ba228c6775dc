"""What the server takes while it does nothing, while streams are open that do nothing, and after many calls."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import uvloop

from bench.stand.load import Asked, closed_loop
from bench.stand.processes import cpu_of, family, memory
from bench.stand.requests import plain, streamed
from bench.stand.stand import Server, Stand
from bench.stand.streams import streams

IDLE_STREAMS = 1000
HOUR_OF_CALLS = 20_000


class Idle(NamedTuple):
    """Of all processes, PostgreSQL's too, in MiB and in percent of a core."""

    gateway_mb: float
    postgres_mb: float
    cpu_percent: float


class Growth(NamedTuple):
    """MiB of the worker, before and after."""

    before: float
    after: float


def idle(stand: Stand, seconds: float) -> Idle:
    gateway = family(stand.gateway.process.pid)
    cpu, start = cpu_of([*gateway, *stand.postgres]), time.perf_counter()
    time.sleep(seconds)  # how long it idles is what is measured
    cpu, taken = cpu_of([*gateway, *stand.postgres]) - cpu, time.perf_counter() - start
    return Idle(memory(gateway), memory(stand.postgres), 100 * cpu / taken)


def open_streams(server: Server, path: str) -> Growth:
    """For 1,000 of them, each after its first event. The worker has answered calls before, as any that is up has."""
    closed_loop(Asked(server.url, plain("/v1/chat/completions", server.key)), 500)
    return uvloop.run(_open_streams(server, path))


async def _open_streams(server: Server, path: str) -> Growth:
    before = memory(server.pids)
    async with streams(Asked(server.url, streamed(path, server.key, 2, 0.01)), IDLE_STREAMS, 4.0) as opened:
        await asyncio.sleep(3.0)  # for the first events, and for what was needed only to open them
        assert all(stream.delays for stream in opened)
        return Growth(before, memory(server.pids))


def after_calls(stand: Stand, calls: int = HOUR_OF_CALLS) -> Growth:
    """Chats and embeddings, and the ledger has them all."""
    server, known = stand.server, stand.counted()
    before = memory(server.pids)
    for path in ("/v1/chat/completions", "/openai", "/embeddings", "/v1/embeddings"):
        closed_loop(Asked(server.url, plain(path, server.key)), calls // 4)
    stand.wait_for(known + calls)
    return Growth(before, memory(server.pids))
