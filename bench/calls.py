"""What a call costs in CPU, in units of B: `python -m bench.calls [--calls 3000]`.

B is the CPU per call of Django's stock ASGI handler with an empty view (`bench.yardstick`), in the same kind of worker,
in the same run. CPU is what the operating system accounts to the worker process, so what else runs on the machine
matters little; the ratio is the figure, milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import uvloop

from bench.stand import stand
from tests.gateway import SECURITY_KEY, free_port

CONNECTIONS = 16
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is TypeScript? " * 5}]}
BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": CHAT,
    "/openai": CHAT,
    "/embeddings": {"model": "text-embedding-3-small", "input": "What is TypeScript?"},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with yardstick() as (url, pid), stand() as bench:
        subjects: list[tuple[str, str, str, int]] = [("B", url, "/v1/chat/completions", pid)]
        subjects += [(path, bench.gateway.url, path, bench.gateway.worker_pids[0]) for path in BODIES]
        costs: dict[str, list[float]] = {name: [] for name, *_ in subjects}
        for _ in range(arguments.rounds):
            for name, base, path, worker in subjects:
                costs[name].append(cost(base, path, worker, arguments.calls))
    b = middle(costs["B"])
    print(f"B = {b:.3f} ms of CPU a call (median of {arguments.rounds} rounds of {arguments.calls:,} calls)")
    for name in BODIES:
        print(f"{name:24} {middle(costs[name]):.3f} ms  {middle(costs[name]) / b:.2f} B")


def cost(base: str, path: str, pid: int, calls: int) -> float:
    """Milliseconds of the worker's CPU a call, after a tenth as many to warm up."""
    uvloop.run(load(base, path, calls // 10))
    before = cpu(pid)
    uvloop.run(load(base, path, calls))
    return (cpu(pid) - before) / calls * 1000


async def load(base: str, path: str, calls: int) -> None:
    await asyncio.gather(*(connection(base, path, calls // CONNECTIONS) for _ in range(CONNECTIONS)))


async def connection(base: str, path: str, calls: int) -> None:
    """One keep-alive connection, one call after the other, by hand: a client library costs more than the server."""
    parts = urlsplit(base)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = json.dumps(BODIES[path]).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {SECURITY_KEY}\r\n"
        f"User-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(calls):
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"{path} answered {answer[:200]!r}")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


@contextmanager
def yardstick() -> Iterator[tuple[str, int]]:
    """Its URL and its worker's pid."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    process = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "--log-level", "error", "bench.yardstick:application"],
        env=environment,
    )
    try:
        wait_for(lambda: httpx2.post(f"http://127.0.0.1:{port}/v1/chat/completions").status_code == 200)
        yield f"http://127.0.0.1:{port}", children(process.pid)[0]
    finally:
        process.terminate()
        process.wait(10)


def wait_for(up: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if up():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)  # a process that starts says nothing to wait for
    raise SystemExit("the yardstick does not start")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu(pid: int) -> float:
    """CPU seconds of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
