"""Owns what every benchmark of calls runs on: servers on one core, upstream and load on another.

PostgreSQL is the gateway's, so it is on the server's core. No feature is off: the key has limits, its bodies are kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import psycopg

from bench.stand.processes import LOAD_CORE, SERVER_CORE, children, family, pinned
from chatproxy import environment
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.gateway import Gateway, free_port, run_gateway

LIMITS = ("--requests-per-minute", "--tokens-per-minute", "--parallel-calls")
NO_LIMIT_REACHED = "1000000000"
PATIENCE = 120.0


class Server(NamedTuple):
    """What is measured: a base URL without `/v1`, whom it lets in, and the processes that do the work."""

    name: str
    url: str
    key: str
    pids: list[int]


class Stand(NamedTuple):
    """`upstream` is a base URL without `/v1`."""

    upstream: str
    gateway: Gateway
    postmaster: int
    database: psycopg.Connection
    server: Server

    @property
    def postgres(self) -> list[int]:
        return family(self.postmaster)

    def counted(self) -> int:
        """Calls in the ledger."""
        ((count,),) = self.database.execute("SELECT coalesce(sum(calls), 0) FROM usage_usageday").fetchall()
        return int(count)

    def wait_for(self, calls: int) -> None:
        """Until the ledger has so many: what is shipped after a measure belongs to it."""
        wait_for(lambda: self.counted() >= calls, f"the ledger has {self.counted():,} calls of {calls:,}")


@contextmanager
def stand(
    url: str | None = None,
    *,
    cores: tuple[int, ...] = (SERVER_CORE,),
    checkout: Path = environment.BASE_DIR,
    **settings: str,
) -> Iterator[Stand]:
    """Without a `url`, `bench.stand.upstream` is the upstream. `checkout` is the directory of the code that serves."""
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(*cores):
        directory = Path(name)
        postgres = BundledPostgres(directory)
        postgres.start()
        try:
            with upstream() as raw, gateway_on(url or raw, directory, postgres, checkout, **settings) as made:
                yield made
        finally:
            postgres.stop()
            postgres.delete()


@contextmanager
def gateway_on(
    upstream: str,
    directory: Path,
    postgres: BundledPostgres,
    checkout: Path = environment.BASE_DIR,
    launcher: Sequence[str] = (),
    /,
    **settings: str,
) -> Iterator[Stand]:
    """A gateway on the cores of this thread, which meanwhile runs on the load's."""
    settings = {"MAX_PARALLEL_REQUESTS": "10000", "BACKGROUND_POLL_SECONDS": "5", **settings}
    cores = os.sched_getaffinity(0)
    postmaster = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
    with (
        run_gateway(f"{upstream}/v1", postgres.url, directory, checkout, launcher, **settings) as gateway,
        psycopg.connect(postgres.url, autocommit=True) as database,
    ):
        key = gateway.make_key(
            f"bench-{os.getpid()}", *(word for limit in LIMITS for word in (limit, NO_LIMIT_REACHED))
        )
        for pid in gateway.worker_pids:
            assert os.sched_getaffinity(pid) == cores
        with pinned(LOAD_CORE):
            yield Stand(
                upstream, gateway, postmaster, database, Server("chatproxy", gateway.url, key, gateway.worker_pids)
            )


@contextmanager
def upstream() -> Iterator[str]:
    """`bench.stand.upstream` and its URL."""
    port = free_port()
    command = [sys.executable, "-m", "bench.stand.upstream", str(port)]
    with pinned(LOAD_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def yardstick() -> Iterator[Server]:
    """`bench.stand.yardstick` in the gateway's own kind of worker, on the server's core."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"]
    command += ["--bind", f"127.0.0.1:{port}", "--keep-alive", "900", "--log-level", "error"]  # as the gateway keeps it
    command += ["bench.stand.yardstick:application"]
    with pinned(SERVER_CORE):
        process = subprocess.Popen(command, env={**os.environ, "DJANGO_SETTINGS_MODULE": ""})
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx2.post(f"{url}/v1/chat/completions").status_code == 200, "the yardstick does not start")
        yield Server("B", url, "", children(process.pid))
    finally:
        process.terminate()
        process.wait(10)


def wait_for(reached: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if reached():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)  # neither a process that starts nor a ledger says when
    raise SystemExit(complaint)
