"""Measures how long a late shipper takes to catch up while the gateway serves calls."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.ledger.shipper import write_journal
from bench.stand.load import Asked, open_loop
from bench.stand.requests import plain
from bench.stand.stand import Stand
from bench.stand.streams import quantile

WAITING = 100_000  # calls, each of which has two records
RATE, MOST_OPEN = 100.0, 50
PATIENCE = 600.0
PATH = "/v1/chat/completions"


class Backlog(NamedTuple):
    """How long a late shipper took to write all waiting calls into the ledger, and the latency of calls meanwhile.

    `p50` and `p99` are percentiles of that latency, in milliseconds, at `RATE` calls a second.
    """

    seconds: float
    p50: float
    p99: float


def measure(it: Stand, seed: int, calls: int = WAITING) -> Backlog:
    """Measures how long the shipper takes to write `calls` waiting calls into the ledger while the gateway is in use.

    The calls are in the journal of a writer that has died. The time is measured in steps of a second. Another `seed`
    makes other calls. Raises SystemExit if it takes too long.
    """
    data_dir = Path(it.gateway.variables["DATA_DIR"])
    asked = Asked(it.server.url, plain(PATH, it.server.key))
    known = shipped(it)
    latencies: list[float] = []
    with tempfile.TemporaryDirectory(dir=data_dir) as name:
        write_journal(Path(name), calls, seed)
        start = time.monotonic()
        for path in sorted(Path(name).iterdir()):
            path.rename(data_dir / "journal" / path.name)
    while shipped(it) < known + calls:
        if time.monotonic() > start + PATIENCE:
            raise SystemExit(f"after {PATIENCE:g} s, {known + calls - shipped(it):,} calls are not in the ledger")
        (found,) = open_loop([asked], RATE, 1.0, MOST_OPEN)
        latencies += found
    return Backlog(time.monotonic() - start, quantile(latencies, 0.5), quantile(latencies, 0.99))


def shipped(it: Stand) -> int:
    """Returns how many calls of the made-up keys of `bench.ledger.shipper` are in the ledger."""
    query = "SELECT coalesce(sum(calls), 0) FROM usage_usageday WHERE key_name LIKE 'team-%'"
    ((count,),) = it.database.execute(query).fetchall()
    return int(count)
