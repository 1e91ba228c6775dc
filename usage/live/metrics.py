"""The page that Prometheus reads: the counters of all processes, and the present state of the server.

Counters go on through restarts (`usage.live.worker_files`), so they never fall while DATA_DIR is kept.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from itertools import accumulate

from django.conf import settings
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from usage.live.process_facts import ProcessFacts
from usage.live.status import ServerStatus, read_status
from usage.metric_counters import COUNTERS, DOLLARS, ENDS, LATENCIES, Dollars

CONTENT_TYPE = CONTENT_TYPE_LATEST
MEANINGS = {
    "calls": "Calls that have ended.",
    "tokens": "Tokens of calls in the ledger's tables; cached ones are among the input, reasoning among the output.",
    "cost_dollars": "Cost in dollars of calls that are in the ledger's tables; less cost_taken_back_dollars.",
    "cost_taken_back_dollars": "Dollars that were counted as cost, and turned out to be too much.",
    "unpriced_calls": "Calls that had no cost when they were written to the tables, because no price is known.",
    "team_calls": "Calls of the keys of a team that are in the ledger's tables.",
    "team_cost_dollars": "Their cost in dollars; less team_cost_taken_back_dollars.",
    "team_cost_taken_back_dollars": "Dollars of theirs that were counted as cost, and turned out to be too much.",
    "refused": "Requests and connections that were refused, by the code of the error.",
    "background_looks": "Background responses whose end the gateway asked upstream for by itself; these are no calls.",
    "dead_letters": "Rows of calls that the database refused; `manage.py ledger deadletter` lists them.",
    "damaged_records": "Records of journals that could not be read, and were set aside in damaged.log.",
    "call_duration_seconds": "From the first byte of a call to the last byte of its answer.",
    "first_chunk_seconds": "From the first byte of a call to the first of its answer.",
    "upstream_seconds": "From sending the request to upstream to the end of upstream's answer.",
    "overhead_seconds": "The time that the gateway itself adds to a call.",
    "budgets_failing": "1 when a worker cannot reserve budgets, since the database does not answer it.",
    "pool_connections": "Connections to the database that pages have open; the largest value of all workers.",
    "pool_waiting": "Pages that wait for a connection to the database; the largest value of all workers.",
    "clock_difference_seconds": "By how much this machine's clock is ahead of the database's.",
    "budget_used_ratio": "Part of a key's budget that is spent or reserved; of the 20 fullest budgets.",
    "team_budget_used_ratio": "Part of a team's budget that is spent or reserved; of the 20 fullest budgets.",
    "build_info": "Always 1: the version of the gateway and of Python.",
    "resident_bytes": "Memory of a process.",
    "cpu_seconds": "CPU time that a process has used. A gauge, since it ends with the process.",
    "open_files": "Open files and sockets of a process.",
    "allowed_files": "How many it may have open.",
}


class _Collector:
    """Source of the metrics on the page `/metrics`: hands the server's state to the library prometheus_client."""

    def __init__(self, status: ServerStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._histograms()
        status, shipping = self._status, self._status.shipping
        gauges = {
            "workers": (status.workers, "Worker processes that are alive."),
            "calls_in_flight": (status.in_flight, "Calls that have begun and not ended, in all workers."),
            "journal_bytes": (shipping.waiting_bytes, "Bytes of the journals that are not in the tables yet."),
            "ledger_lag_seconds": (
                shipping.lag_seconds,
                "How long the oldest record of a journal has waited for the tables, at most.",
            ),
            "journal_full": (status.journal_full, "1 when the disk has no room for new calls, which are refused."),
            "database_up": (not shipping.database_fault, "0 when the shipper cannot write to PostgreSQL."),
            "shipper_up": (not shipping.shipper_fault, "0 when the shipper fails otherwise, or does not run."),
            **{
                name: (value, MEANINGS.get(name, "The largest value of all workers."))
                for name, value in status.gauges.items()
            },
        }
        if status.upstream != "unknown":
            gauges["upstream_up"] = (status.upstream == "ok", "0 when the newest call did not get through to upstream.")
        if shipping.clock_difference is not None:
            gauges["clock_difference_seconds"] = (shipping.clock_difference, MEANINGS["clock_difference_seconds"])
        for name, (value, meaning) in gauges.items():
            yield GaugeMetricFamily(f"chatproxy_{name}", meaning, value=float(value))
        yield from self._of_budgets()
        yield from self._of_processes()
        build = GaugeMetricFamily("chatproxy_build_info", MEANINGS["build_info"], labels=("version", "python"))
        build.add_metric((settings.VERSION, platform.python_version()), 1)
        yield build

    def _of_budgets(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("chatproxy_budget_used_ratio", MEANINGS["budget_used_ratio"], labels=("key", "span"))
        for use in self._status.shipping.budgets:
            if use.kind == "key":
                family.add_metric((use.name, use.span), use.part)
        yield family
        name = "team_budget_used_ratio"
        family = GaugeMetricFamily(f"chatproxy_{name}", MEANINGS[name], labels=("team", "span"))
        for use in self._status.shipping.budgets:
            if use.kind == "team":
                family.add_metric((use.name, use.span), use.part)
        yield family

    def _of_processes(self) -> Iterator[Metric]:
        for name in ProcessFacts._fields:
            family = GaugeMetricFamily(f"chatproxy_process_{name}", MEANINGS[name], labels=("process", "pid"))
            for (process, pid), facts in self._status.processes.items():
                family.add_metric((process, str(pid)), getattr(facts, name))
            yield family

    def _counters(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(f"chatproxy_{name}", MEANINGS[name], labels=labels)
            for name, labels in COUNTERS.items()
            if name not in DOLLARS
        }
        # Counters without labels are shown from the start, at 0: the rate of one that appears at 1 would lack that 1.
        values = {(name,): 0.0 for name, labels in COUNTERS.items() if not labels} | self._status.counted.values
        for (name, *labels), value in sorted(values.items()):
            if name in families:  # else an earlier or later version of this program had this counter
                families[name].add_metric(labels, value)
        yield from families.values()

    def _histograms(self) -> Iterator[Metric]:
        families = {
            name: HistogramMetricFamily(f"chatproxy_{name}", MEANINGS[name], labels=("route",)) for name in LATENCIES
        }
        ends = [*map(str, ENDS), "+Inf"]
        for (name, route), (*counts, total) in sorted(self._status.counted.histograms.items()):
            if name in families and len(counts) == len(ends):  # else another version had this histogram
                families[name].add_metric((route,), list(zip(ends, accumulate(counts), strict=True)), total)
        yield from families.values()


def render() -> bytes:
    """Returns the content of the page `/metrics`, in Prometheus's text format, from the reports of all workers."""
    registry = CollectorRegistry(auto_describe=False)
    status = read_status()
    registry.register(_Collector(status))
    return generate_latest(registry) + "".join(_dollar_lines(status.counted.dollars)).encode()


def _dollar_lines(dollars: Dollars) -> Iterator[str]:
    """Yields the lines of the dollar counters in Prometheus's text format."""
    # Not by prometheus_client: its floating-point numbers have no eighth decimal above millions.
    for name in DOLLARS:
        full_name = f"chatproxy_{name}_total"
        yield f"# HELP {full_name} {MEANINGS[name]}\n# TYPE {full_name} counter\n"
        for (counter, *texts), value in sorted(dollars.items()):
            if counter == name:
                labels = sorted(zip(COUNTERS[name], texts, strict=True))
                pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
                yield f"{full_name}{{{pairs}}} {value:f}\n"


def _escaped(text: str) -> str:
    """Returns a label's value escaped for Prometheus's text format; the quotes around it are not added."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
