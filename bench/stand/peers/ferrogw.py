"""Runs ferrogw, Ferro Labs' AI Gateway, in Go: with a master key, no log of calls, and no rate limit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.stand.peers.peer_process import peer
from bench.stand.stand import Server
from tests.support.servers.gateway import free_port

KEY = "fgw_bench_master_key"
NO_LIMIT_REACHED = "1000000"
NOWHERE = "http://127.0.0.1:9/"  # else ferrogw fetches its list of models from the internet, and not from its binary
CONFIGURATION = {"strategy": {"mode": "single"}, "targets": [{"virtual_key": "openai"}]}


@contextmanager
def ferrogw(upstream: str) -> Iterator[Server]:
    """Runs the gateway ferrogw in front of `upstream` until the `with` block ends; yields its URL, key and processes.

    It runs Go code on only one thread at a time, because it has one core.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        file = Path(directory) / "config.json"
        file.write_text(json.dumps(CONFIGURATION))
        environment = {
            "FERRO_MODEL_CATALOG_URL": NOWHERE,
            "GATEWAY_CONFIG": str(file),
            "GOMAXPROCS": "1",
            "LOG_LEVEL": "error",
            "MASTER_KEY": KEY,
            "OPENAI_API_KEY": "sk",
            "OPENAI_BASE_URL": upstream,
            "PORT": str(port),
            "RATE_LIMIT_BURST": NO_LIMIT_REACHED,
            "RATE_LIMIT_RPS": NO_LIMIT_REACHED,
        }
        server = Server("ferrogw", f"http://127.0.0.1:{port}", KEY)
        with peer(server, "/readyz", ["ferrogw", "serve"], environment) as running:
            yield running
