"""The state of the whole server right now, put together from the reports of its workers and of its shipper.

The state has the calls in flight, the bytes that wait in journals, and whether database, Redis, upstream and shipper
work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from usage.ledger import ledger
from usage.live.process_facts import ProcessFacts, read_process_facts
from usage.live.shipping_state import ShippingState, unix_time
from usage.live.worker_files import WorkerReport, WorkerReports, read_worker_reports
from usage.metric_counters import ServerCounters, counters


@dataclass(frozen=True)
class ServerStatus:
    """The state of the whole server, put together from its processes' reports, in bytes, seconds and Unix times.

    `upstream_answered_at` is None until upstream has answered for the first time, and `upstream_failed_at` until it has
    failed.
    """

    workers: int
    in_flight: int  # calls
    draining: int  # workers that take no more calls
    journal_full: bool
    shipping: ShippingState
    upstream_answered_at: float | None
    upstream_failed_at: float | None
    counted: ServerCounters
    gauges: dict[str, float]  # the largest value of all workers, by the gauge's name
    # By kind, `worker` or `shipper`, and process id.
    processes: dict[tuple[str, int], ProcessFacts] = field(default_factory=dict)

    @property
    def redis_away_seconds(self) -> float | None:
        """The number of seconds for which a worker has been without Redis: the longest such time of all workers.

        It is 0 if all workers reach Redis, and None if Redis is not configured.
        """
        return self.gauges.get("redis_away_seconds")

    @property
    def upstream(self) -> str:
        """The state of upstream: `unknown` before the first call, then `ok` or `unreachable`.

        It is `unreachable` if the newest call did not reach upstream.
        """
        if self.upstream_answered_at is None and self.upstream_failed_at is None:
            return "unknown"
        return "ok" if (self.upstream_answered_at or 0) >= (self.upstream_failed_at or 0) else "unreachable"


def read_status() -> ServerStatus:
    """Reads the reports of all workers of this host, and combines them into the state of the server.

    A field that is missing, for example because another version wrote the report, counts as 0 or as not known.
    """
    reports = read_worker_reports()
    alive = reports.alive
    return ServerStatus(
        workers=len(alive),
        in_flight=int(sum(_numbers(alive, "in_flight"))),
        draining=int(sum(_numbers(alive, "draining"))),
        journal_full=any(_numbers(alive, "journal_full")),
        shipping=ShippingState.of(reports.shipper),
        upstream_answered_at=max(_numbers(alive, "upstream_answered_at"), default=None),
        upstream_failed_at=max(_numbers(alive, "upstream_failed_at"), default=None),
        counted=reports.counted,
        gauges=_largest_gauges(alive),
        processes=dict(_processes(reports)),
    )


def _processes(reports: WorkerReports) -> Iterator[tuple[tuple[str, int], ProcessFacts]]:
    """Yields the kind, `worker` or `shipper`, the process id and the resources of each living process."""
    shippers = [reports.shipper] if reports.shipper is not None else []
    for kind, found in (("worker", reports.alive), ("shipper", shippers)):
        for report in found:
            pid = report.get("pid")
            if isinstance(pid, int) and (facts := read_process_facts(pid)) is not None:
                yield (kind, pid), facts


def _numbers(reports: Iterable[WorkerReport], name: str) -> Iterator[float]:
    """Yields the number in the field `name` of each worker's report; true counts as 1.

    Reports without a number in this field are left out.
    """
    for report in reports:
        value = report.get(name)
        if isinstance(value, int | float):
            yield value


def _largest_gauges(reports: Iterable[WorkerReport]) -> dict[str, float]:
    """Returns the largest value of each gauge, such as `redis_away_seconds`, among the workers' reports.

    A gauge without any value is left out.
    """
    largest: dict[str, float] = {}
    for report in reports:
        gauges = report.get("gauges")
        for name, value in gauges.items() if isinstance(gauges, dict) else ():
            if value is not None:  # None stands for no value, and for an infinite one, which JSON cannot have
                largest[name] = max(largest.get(name, value), value)
    return largest


def build_report(*, in_flight: int, draining: bool, gauges: Mapping[str, float | None]) -> dict[str, object]:
    """Returns this worker's report: calls in flight, whether the journal is full, the state of upstream, gauges.

    A gauge that is None is left out of the dashboard and `/metrics`. The caller writes the report to a file.
    """
    answered, failed = counters.upstream_answered_at, counters.upstream_failed_at
    return {
        "in_flight": in_flight,
        "draining": draining,
        "gauges": gauges,
        "journal_full": ledger.journal.full,
        "upstream_answered_at": answered and unix_time(answered),
        "upstream_failed_at": failed and unix_time(failed),
    }
