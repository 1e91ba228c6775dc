"""The state of the whole server right now, put together from the reports of its workers: calls in flight, bytes that
wait in journals, and whether database, Redis, upstream and ledger work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from usage.counters import ServerCounters, counters
from usage.ledger import ledger
from usage.live.worker_files import WorkerReport, read_worker_reports


@dataclass(frozen=True)
class ServerStatus:
    """The state of the whole server, put together from the reports of its workers, in bytes, seconds and Unix times.

    `upstream_answered_at` and `upstream_failed_at` are None until that has happened.
    """

    workers: int
    in_flight: int  # calls
    draining: int  # workers
    journal_bytes: int  # not in the tables yet
    ledger_lag_seconds: float
    journal_full: bool
    database_fault: str  # the name of the error; empty while all is well
    shipper_fault: str  # likewise
    upstream_answered_at: float | None
    upstream_failed_at: float | None
    counted: ServerCounters
    gauges: dict[str, float]  # of each gauge the largest value of all workers

    @property
    def redis_away_seconds(self) -> float | None:
        """The longest time in seconds that any worker has been without Redis.

        0 if no worker is without Redis, None if Redis is not configured.
        """
        return self.gauges.get("redis_away_seconds")

    @property
    def upstream(self) -> str:
        """The state of upstream as text: `unknown` before the first call, `unreachable` after a failed call, else `ok`.

        A call has failed in this sense if it did not get through to upstream.
        """
        if self.upstream_answered_at is None and self.upstream_failed_at is None:
            return "unknown"
        return "ok" if (self.upstream_answered_at or 0) >= (self.upstream_failed_at or 0) else "unreachable"


def read_status() -> ServerStatus:
    """Reads the reports of all workers of this host and returns the state of the server.

    A field that is missing in the report of a worker of another version counts as 0.
    """
    reports = read_worker_reports()
    alive = reports.alive
    now = time.time()
    return ServerStatus(
        workers=len(alive),
        in_flight=int(sum(_numbers(alive, "in_flight"))),
        draining=int(sum(_numbers(alive, "draining"))),
        journal_bytes=int(sum(_numbers(alive, "journal_bytes"))),
        # What is written to a journal is not in the tables until it is shipped: the longest wait of all counts.
        ledger_lag_seconds=max((max(0.0, now - moment) for moment in _numbers(alive, "shipped_until")), default=0.0),
        journal_full=any(_numbers(alive, "journal_full")),
        database_fault=_first_text(alive, "database"),
        shipper_fault=_first_text(alive, "shipper"),
        upstream_answered_at=max(_numbers(alive, "upstream_answered_at"), default=None),
        upstream_failed_at=max(_numbers(alive, "upstream_failed_at"), default=None),
        counted=reports.counted,
        gauges=_largest_gauges(alive),
    )


def _numbers(reports: Iterable[WorkerReport], name: str) -> Iterator[float]:
    """Yields the number in the field `name` of each worker's report; true counts as 1.

    Reports without a number in that field are skipped.
    """
    for report in reports:
        value = report.get(name)
        if isinstance(value, int | float):
            yield value


def _first_text(reports: Iterable[WorkerReport], name: str) -> str:
    """Returns the first text that is not empty in the field `name` of the workers' reports; else an empty text."""
    texts = (report.get(name) for report in reports)
    return next((text for text in texts if isinstance(text, str) and text), "")


def _largest_gauges(reports: Iterable[WorkerReport]) -> dict[str, float]:
    """Returns, for each gauge, the largest value in the workers' reports."""
    largest: dict[str, float] = {}
    for report in reports:
        gauges = report.get("gauges")
        for name, value in gauges.items() if isinstance(gauges, dict) else ():
            if value is not None:  # None: the worker has no such value, or an infinite one, which JSON does not know
                largest[name] = max(largest.get(name, value), value)
    return largest


def build_report(*, in_flight: int, draining: bool, gauges: Mapping[str, float | None]) -> dict[str, object]:
    """Builds the report of this worker for `/metrics`: calls in flight, journal, database, shipper and upstream.

    A gauge that is None is not shown.
    """
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
