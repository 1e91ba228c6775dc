"""Owns the page that Prometheus reads: what all workers have counted, and how they are now.

Counters go on through restarts (`usage.live.worker_files`), so they never fall while DATA_DIR is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from usage.counters import COUNTERS, ENDS, LATENCIES
from usage.live.status import ServerStatus, read_status

CONTENT_TYPE = CONTENT_TYPE_LATEST
MEANINGS = {
    "calls": "Calls that have ended.",
    "tokens": "Tokens of calls in the ledger's tables; cached ones are among the input, reasoning among the output.",
    "cost_dollars": "Dollars of calls that are in the ledger's tables.",
    "refused": "Requests and connections that were refused, by the code of the error.",
    "background_looks": "Background responses whose end the gateway has seen by itself; these are no calls.",
    "dead_letters": "Rows of calls that the database refused; `manage.py ledger deadletter` lists them.",
    "damaged_records": "Records of journals that could not be read, and were set aside in damaged.log.",
    "call_duration_seconds": "From the first byte of a call to the last byte of its answer.",
    "first_chunk_seconds": "From the first byte of a call to the first of its answer.",
    "upstream_seconds": "From asking upstream to its end.",
    "overhead_seconds": "The gateway's own share of a call.",
}


class _Collector:
    def __init__(self, live: ServerStatus) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._histograms()
        live = self._live
        gauges = {
            "workers": (live.workers, "Worker processes that are alive."),
            "calls_in_flight": (live.in_flight, "Calls that have begun and not ended, in all workers."),
            "journal_bytes": (live.journal_bytes, "How much of the journals is not in the tables yet."),
            "ledger_lag_seconds": (live.ledger_lag_seconds, "How long the oldest of it has waited, at most."),
            "journal_full": (live.journal_full, "1 when there is no room for new calls."),
            "database_up": (not live.database_fault, "0 when the shipper cannot write to PostgreSQL."),
            "shipper_up": (not live.shipper_fault, "0 when the shipper fails of something else."),
            **{name: (value, "The largest of all workers.") for name, value in live.extra.items()},
        }
        if live.upstream != "unknown":
            gauges["upstream_up"] = (live.upstream == "ok", "0 when the newest call did not get through to upstream.")
        for name, (value, meaning) in gauges.items():
            yield GaugeMetricFamily(f"chatproxy_{name}", meaning, value=float(value))

    def _counters(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(f"chatproxy_{name}", MEANINGS[name], labels=labels)
            for name, labels in COUNTERS.items()
        }
        # What has no labels is there from the start: a rate of what appears at 1 would miss the first one.
        values = {(name,): 0.0 for name, labels in COUNTERS.items() if not labels} | self._live.counted.values
        for (name, *labels), value in sorted(values.items()):
            if name in families:  # else another version's, which counted before this one
                families[name].add_metric(labels, value)
        yield from families.values()

    def _histograms(self) -> Iterator[Metric]:
        families = {
            name: HistogramMetricFamily(f"chatproxy_{name}", MEANINGS[name], labels=("route",)) for name in LATENCIES
        }
        ends = [*map(str, ENDS), "+Inf"]
        for (name, route), (*counts, total) in sorted(self._live.counted.histograms.items()):
            families[name].add_metric((route,), list(zip(ends, accumulate(counts), strict=True)), total)
        yield from families.values()


def render() -> bytes:
    """The page, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(read_status()))
    return generate_latest(registry)
