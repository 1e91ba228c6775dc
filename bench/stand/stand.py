"""Runs the servers that the benchmarks need.

The gateway and its PostgreSQL run on one core, upstream and the clients on another. All features of the gateway are on:
the key has limits, which are never reached, and bodies are kept.
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

from bench.stand.processes import LOAD_CORE, SERVER_CORE, family, pinned
from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.gateway import Gateway, free_port, run_gateway

NOT_REACHED = "1000000000"
LIMITS_NOT_REACHED = (
    *("--requests-per-minute", NOT_REACHED),
    *("--tokens-per-minute", NOT_REACHED),
    *("--parallel-calls", NOT_REACHED),
)
PATIENCE = 120.0


class Server(NamedTuple):
    """A server to measure: its base URL without `/v1`, and a key that it accepts.

    `root` is the id of the process that was started. It is None if the server's CPU and memory are not measured.
    """

    name: str
    url: str
    key: str = ""
    root: int | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of all living processes of the server, so that whatever does a part of the work is measured."""
        return [] if self.root is None else family(self.root)


class Stand(NamedTuple):
    """A running gateway and what its measures need: upstream, PostgreSQL, a connection to the ledger.

    `upstream` is a base URL without `/v1`; `postmaster` is the id of PostgreSQL's main process; `server` is the gateway
    as the measures see it, with all its processes but those of PostgreSQL.
    """

    upstream: str
    gateway: Gateway
    postmaster: int
    database: psycopg.Connection
    server: Server

    @property
    def postgres(self) -> list[int]:
        """The ids of all processes of PostgreSQL."""
        return family(self.postmaster)

    def counted(self) -> int:
        """Returns how many calls the ledger has, by its daily sums."""
        ((count,),) = self.database.execute("SELECT coalesce(sum(calls), 0) FROM usage_usageday").fetchall()
        return int(count)

    def wait_for(self, calls: int) -> None:
        """Waits until the ledger has `calls` calls; raises SystemExit if that takes too long.

        Writing calls into the ledger is part of their cost, so a measure includes this time.
        """
        wait_for(lambda: self.counted() >= calls, f"the ledger has {self.counted():,} calls of {calls:,}")


@contextmanager
def stand(
    url: str | None = None,
    *,
    cores: tuple[int, ...] = (SERVER_CORE,),
    checkout: Path = setting_reader.BASE_DIR,
    **settings: str,
) -> Iterator[Stand]:
    """Runs a new PostgreSQL and a gateway until the `with` block ends, and yields the gateway.

    Deletes the database afterwards. Upstream is the server at `url`, or else `bench.stand.upstream`. The gateway and
    PostgreSQL run on `cores`. `checkout` is the directory of the gateway's code, and `settings` are environment
    variables of the gateway.
    """
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
    checkout: Path = setting_reader.BASE_DIR,
    launcher: Sequence[str] = (),
    /,
    **settings: str,
) -> Iterator[Stand]:
    """Runs a gateway with this PostgreSQL until the `with` block ends; makes a key with limits, and yields the gateway.

    The gateway runs on the cores that this thread is pinned to. Inside the block the thread is pinned to the core of
    the clients. `launcher` is a command in front of the gateway's own, such as one that lowers a limit.
    """
    settings = {"MAX_PARALLEL_REQUESTS": "10000", "BACKGROUND_POLL_SECONDS": "5", **settings}
    cores = os.sched_getaffinity(0)
    postmaster = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
    with (
        run_gateway(f"{upstream}/v1", postgres.url, directory, checkout, launcher, **settings) as gateway,
        psycopg.connect(postgres.url, autocommit=True) as database,
    ):
        key = gateway.make_key(f"bench-{os.getpid()}-{time.monotonic_ns()}", *LIMITS_NOT_REACHED)
        for pid in gateway.worker_pids:
            assert os.sched_getaffinity(pid) == cores
        with pinned(LOAD_CORE):
            yield Stand(
                upstream, gateway, postmaster, database, Server("chatproxy", gateway.url, key, gateway.process.pid)
            )


@contextmanager
def upstream() -> Iterator[str]:
    """Runs `bench.stand.upstream`, a stand-in for OpenAI's API, until the `with` block ends, and yields its URL.

    It runs on the core of the clients.
    """
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
    """Runs an empty Django view (the yardstick B) until the `with` block ends; yields its URL and processes.

    It runs on the gateway's core, and in the gateway's kind of worker, gunicorn with uvicorn.
    """
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"]
    command += ["--bind", f"127.0.0.1:{port}", "--keep-alive", "900", "--log-level", "error"]  # 900 s as in the gateway
    command += ["bench.stand.yardstick:application"]
    with pinned(SERVER_CORE):
        process = subprocess.Popen(command, env={**os.environ, "DJANGO_SETTINGS_MODULE": ""})
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx2.post(f"{url}/v1/chat/completions").status_code == 200, "the yardstick does not start")
        yield Server("B", url, root=process.pid)
    finally:
        process.terminate()
        process.wait(10)


def wait_for(reached: Callable[[], bool], complaint: str) -> None:
    """Waits until `reached` returns True; after `PATIENCE` seconds, raises SystemExit with the message `complaint`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if reached():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)  # polled: neither a starting process nor the ledger reports when it is ready
    raise SystemExit(complaint)
