"""Owns what every benchmark of calls runs on: PostgreSQL, `bench.upstream` and a gateway, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chatproxy.bundled_postgres import BundledPostgres
from tests.gateway import Gateway, free_port, run_gateway


class Stand(NamedTuple):
    """`upstream` and `gateway.url` are base URLs without `/v1`."""

    upstream: str
    gateway: Gateway


@contextmanager
def stand(**settings: str) -> Iterator[Stand]:
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, upstream() as url:
        directory = Path(name)
        postgres = BundledPostgres(directory)
        postgres.start()
        try:
            with run_gateway(f"{url}/v1", postgres.url, directory, **settings) as gateway:
                yield Stand(url, gateway)
        finally:
            postgres.stop()
            postgres.delete()


@contextmanager
def upstream() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
