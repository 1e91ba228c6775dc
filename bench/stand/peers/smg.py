"""Runs smg, the Shepherd Model Gateway, in Rust: with no keys, no log of calls, and no rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.stand.peers.peer_process import peer
from bench.stand.stand import Server
from tests.support.servers.gateway import free_port


@contextmanager
def smg(upstream: str) -> Iterator[Server]:
    """Runs the gateway smg in front of `upstream` until the `with` block ends; yields its URL and processes.

    It passes the caller's key on, and does not limit the number of calls in flight.
    """
    port, metrics_port = free_port(), free_port()
    command = ["smg", "launch", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    command += ["--backend", "openai", "--worker-urls", upstream, "--max-concurrent-requests", "0"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port)]
    with peer(Server("smg", f"http://127.0.0.1:{port}", "sk"), "/health", command, {}) as running:
        yield running
