"""Owns what is going on right now, across all workers: calls in flight, what waits in journals, who is well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from usage.counters import Sum, counters
from usage.ledger import ledger
from usage.live.worker_files import read_worker_reports


@dataclass(frozen=True)
class ServerStatus:
    """Bytes, seconds and Unix times. `upstream_*_at` are None if that has not happened yet."""

    workers: int
    in_flight: int
    draining: int
    journal_bytes: int
    ledger_lag_seconds: float
    journal_full: bool
    database_fault: str
    shipper_fault: str
    upstream_answered_at: float | None
    upstream_failed_at: float | None
    counted: Sum
    extra: dict[str, float]

    @property
    def redis_away_seconds(self) -> float | None:
        """0 when it is there for all workers; None when there is to be none."""
        return self.extra.get("redis_away_seconds")

    @property
    def upstream(self) -> str:
        """`unknown` before the first call; `unreachable` when the newest call did not get through."""
        if self.upstream_answered_at is None and self.upstream_failed_at is None:
            return "unknown"
        return "ok" if (self.upstream_answered_at or 0) >= (self.upstream_failed_at or 0) else "unreachable"


def read_status() -> ServerStatus:
    workers = read_worker_reports()
    alive = workers.alive
    now = time.time()
    extra: dict[str, float] = {}
    for state in alive:
        for name, value in state["gauges"].items():
            if value is not None:  # there is none, or it is infinite, which JSON has not: never yet
                extra[name] = max(extra.get(name, value), value)
    return ServerStatus(
        workers=len(alive),
        in_flight=sum(state["in_flight"] for state in alive),
        draining=sum(state["draining"] for state in alive),
        journal_bytes=sum(state["journal_bytes"] for state in alive),
        # Before it is shipped, what is written is not in the tables: what has waited longest counts.
        ledger_lag_seconds=max((max(0.0, now - state["shipped_until"]) for state in alive), default=0.0),
        journal_full=any(state["journal_full"] for state in alive),
        database_fault=_first(state["database"] for state in alive),
        shipper_fault=_first(state["shipper"] for state in alive),
        upstream_answered_at=_newest(state["upstream_answered_at"] for state in alive),
        upstream_failed_at=_newest(state["upstream_failed_at"] for state in alive),
        counted=workers.counted,
        extra=extra,
    )


def _first(words: Iterable[str]) -> str:
    return next(filter(None, words), "")


def _newest(moments: Iterable[float | None]) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)


def build_report(*, in_flight: int, draining: bool, gauges: Mapping[str, float | None]) -> dict[str, Any]:
    """What this worker has to say. `gauges` are others' numbers; of all workers' the largest counts, None does not."""
    lag_bytes = ledger.lag_bytes
    return {
        "in_flight": in_flight,
        "draining": draining,
        "gauges": gauges,
        "journal_bytes": lag_bytes,
        "shipped_until": ledger.shipper.complete_at if lag_bytes else time.time(),
        "journal_full": ledger.journal.full,
        "database": ledger.database_error,
        "shipper": ledger.shipper_error,
        "upstream_answered_at": counters.upstream_answered_at,
        "upstream_failed_at": counters.upstream_failed_at,
    }
