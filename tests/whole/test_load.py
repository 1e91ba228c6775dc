"""Much at once and much in a row: nothing is lost, nothing is cut, and the worker does not grow.

The simulator runs in a process of its own here: in the tests' one it would share a core with the client.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chatproxy.configuration import setting_reader
from tests.simulator.wire.multipart import parse_form
from tests.support.polling import wait_until
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway, run_gateway

KEY = {"security_key": SECURITY_KEY}
MESSAGES = [{"role": "user", "content": "hi"}]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The base URL of a simulator in its own process."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulator"], cwd=setting_reader.BASE_DIR, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()


@pytest.fixture(scope="module")
def gateway(upstream: str, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway(upstream, gateway_database, tmp_path_factory.mktemp("load")) as gateway:
        yield gateway


def control(upstream: str, method: str, page: str) -> Any:
    return httpx2.request(method, upstream.replace("/v1", f"/_simulator/{page}"), timeout=PATIENCE).json()


def client_of(gateway: Gateway, agent: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx2.AsyncClient(base_url=gateway.url, timeout=60, limits=limits, headers={"user-agent": agent})


# 200 streams of 30 seconds


async def read_stream(client: httpx2.AsyncClient) -> bytes:
    body = {**KEY, "model": "fault:events-300+pace-0.1", "input": "hi", "stream": True}
    async with client.stream("POST", "/openai2", json=body) as answer:
        assert answer.status_code == 200
        return await answer.aread()


async def test_200_streams_of_30_seconds_lose_no_event(gateway: Gateway, upstream: str) -> None:
    (pid,) = gateway.worker_pids
    began, was_busy = time.monotonic(), busy_seconds(pid)
    async with client_of(gateway, "load-streams") as client:
        streams = await asyncio.gather(*(read_stream(client) for _ in range(200)))
    took, busy = time.monotonic() - began, busy_seconds(pid) - was_busy
    print(f"\n200 streams: {took:.1f} s, {busy:.1f} of them busy")  # noqa: T201  (figures, for `pytest -s`)

    for stream in streams:
        numbers = [int(number) for number in re.findall(rb'"sequence_number":(\d+)', stream)]
        assert numbers == list(range(len(numbers)))
        deltas = re.findall(r'"delta":"( ö\d+)"', stream.decode())
        assert deltas == [f" ö{number}" for number in range(300)]
        assert stream.endswith(b"data: [DONE]\n\n")
    # 308 events, 0.1 s apart; a server that cannot follow is busy all the time. How long that takes is not its doing
    # alone: other tests run beside this one.
    assert took > 30
    assert busy < 20
    rows = gateway.rows("WHERE user_agent = 'load-streams'", at_least=200)
    assert Counter(row["outcome"] for row in rows) == {"success": 200}
    assert {row["output_tokens"] for row in rows} == {300}
    control(upstream, "DELETE", "requests")


# An upload of 24 MiB


def test_an_upload_of_24_mib_arrives_intact(gateway: Gateway, upstream: str) -> None:
    sound = random.Random(24).randbytes(24 * MIB)
    control(upstream, "DELETE", "requests")
    answer = gateway.http.post(
        "/openai/audio/transcriptions", data={**KEY, "model": "whisper-1"}, files={"file": ("a.mp3", sound)}
    )

    assert answer.status_code == 200
    (received,) = control(upstream, "GET", "requests")
    headers = dict(received["headers"])
    form = parse_form(headers["content-type"], base64.b64decode(received["body_base64"]))
    assert hashlib.sha256(form.files[0].data).digest() == hashlib.sha256(sound).digest()
    assert form.fields == {"model": ["whisper-1"]}
    assert gateway.row(answer)["request_bytes"] > 24 * MIB
    control(upstream, "DELETE", "requests")


# 10,000 calls

WARM_UP = 1_000
CALLS = 10_000
WORKERS = 20
SLICE = 1_000
# What the memory may grow in three slices in a row, where it grew least. A leak of one request object, one body or
# one task per call would be a KiB or more for each, so 3 MiB in any three slices. CPython's and glibc's arenas keep
# the peak of a moment, some MiB at once and more of them while the process is young, but not in all slices.
GROWTH = MIB


async def call_plain(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/openai", json={**KEY, "model": "gpt-4o-mini", "messages": MESSAGES})
    assert answer.status_code == 200


async def call_stream(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/openai2", json={**KEY, "model": "fault:events-5", "input": "hi", "stream": True})
    assert answer.content.endswith(b"data: [DONE]\n\n")


async def call_error(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/openai", json={**KEY, "model": "fault:status-500", "messages": MESSAGES})
    assert answer.status_code == 500


async def call_and_leave(client: httpx2.AsyncClient) -> None:
    body = {**KEY, "model": "fault:events-50+silent-30", "input": "hi", "stream": True}
    async with client.stream("POST", "/openai2", json=body) as answer:
        await anext(answer.aiter_raw())


KINDS = (call_plain, call_stream, call_error, call_and_leave)


async def run_calls(gateway: Gateway, upstream: str, count: int) -> None:
    numbers = iter(range(count))

    async def work(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            await KINDS[number % len(KINDS)](client)
            if number % 1000 == 999:
                await client.delete(upstream.replace("/v1", "/_simulator/requests"))

    async with client_of(gateway, "load-mixed") as client:
        await asyncio.gather(*(work(client) for _ in range(WORKERS)))


def busy_seconds(pid: int) -> float:
    """The CPU time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def settle(gateway: Gateway, count: int) -> None:
    """Waits for the rows of all calls: then none is in flight and none waits to be written."""
    where = "WHERE user_agent = 'load-mixed'"
    wait_until(lambda: gateway.count(where) >= count)


async def test_the_worker_does_not_grow_over_10_000_calls(start_gateway: Callable[..., Gateway], upstream: str) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream)  # a fresh one: memory freed by other tests would hide a leak
    (pid,) = gateway.worker_pids
    await run_calls(gateway, upstream, WARM_UP)
    settle(gateway, WARM_UP)
    memory, files = [resident_bytes(pid)], open_files(pid)
    for number in range(WARM_UP + SLICE, CALLS + 1, SLICE):
        await run_calls(gateway, upstream, SLICE)
        settle(gateway, number)
        memory.append(resident_bytes(pid))
    growth = [after - before for before, after in zip(memory, memory[3:], strict=False)]
    more_files = open_files(pid) - files
    sizes = " ".join(f"{one / MIB:.2f}" for one in memory)
    print(f"\nMiB after each {SLICE} calls: {sizes}; {more_files:+d} files")  # noqa: T201  (figures, for `pytest -s`)

    assert min(growth) < GROWTH
    # Pooled connections to upstream and to the database come and go; 2,250 cut streams would leave that many.
    assert abs(more_files) <= WORKERS + 10
    assert control(upstream, "GET", "state")["in_flight"] == 0
    rows = gateway.rows("WHERE user_agent = 'load-mixed'")
    share = CALLS // len(KINDS)
    assert Counter(row["outcome"] for row in rows) == {
        "success": 2 * share,
        "upstream_error": share,
        "client_cancelled": share,
    }
