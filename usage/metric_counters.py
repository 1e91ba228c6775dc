"""The counters of this process for `/metrics`: numbers about its calls that only ever grow.

A call is counted when it ends, by its worker, on the event loop. Its tokens and dollars are counted by the shipper when
its row is in the tables, because only then is it known whether they have been counted before
(`usage.journal_shipping.response_billing`). The number of labels is limited: a caller can name any model, but only a
model that has answered gets a label of its own, and at most `MOST_MODELS` do.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from usage.call_record import CallRecord, SummedRow, TokenCount, called_model
from usage.models import Outcome

Latency = Literal["duration_ms", "time_to_first_chunk_ms", "upstream_ms", "overhead_ms"]

# The names in /metrics, and their labels.
COUNTERS = {
    "calls": ("route", "model", "outcome"),
    "tokens": ("route", "model", "kind"),
    "cost_dollars": ("route", "model"),
    "cost_taken_back_dollars": ("route", "model"),
    "unpriced_calls": ("route", "model"),
    "team_calls": ("team",),
    "team_cost_dollars": ("team",),
    "team_cost_taken_back_dollars": ("team",),
    "refused": ("reason",),
    "background_looks": (),
    "dead_letters": (),
    "damaged_records": (),
}
DOLLARS = ("cost_dollars", "cost_taken_back_dollars", "team_cost_dollars", "team_cost_taken_back_dollars")
LATENCIES: dict[str, Latency] = {
    "call_duration_seconds": "duration_ms",
    "first_chunk_seconds": "time_to_first_chunk_ms",
    "upstream_seconds": "upstream_ms",
    "overhead_seconds": "overhead_ms",
}
# The upper ends of the histograms' buckets in seconds. One more bucket has no upper end.
ENDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
TOKENS: dict[str, TokenCount] = {
    "input": "input_tokens",
    "cached": "cached_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
MOST_MODELS = 100
MOST_TEAMS = 200  # with labels of their own
OTHER = "other"
UNREACHED = {Outcome.TIMEOUT, Outcome.UNREACHABLE}

# `CounterValues`: the value of a counter by its name and labels. `Dollars`: the same of the counters of dollars, which
# are sums of decimal numbers, so that they are exact. `Histograms`: by name and route, the number of calls in each
# bucket and, as the last item, the sum of the seconds.
CounterValues = dict[tuple[str, ...], float]
Dollars = dict[tuple[str, ...], Decimal]
Histograms = dict[tuple[str, str], list[float]]


class WorkerCounters:
    """The counters and histograms of this process for the page `/metrics`. All threads may call the methods."""

    def __init__(self) -> None:
        self.values: CounterValues = {}
        self.dollars: Dollars = {}
        self.histograms: Histograms = {}
        # Seconds of `time.monotonic()`: which of them is newer must not depend on a clock that was put back in between.
        self.upstream_answered_at: float | None = None
        self.upstream_failed_at: float | None = None
        self._models: set[str] = set()
        self._teams: set[str] = set()
        self._lock = threading.Lock()

    def count_call(self, row: CallRecord) -> None:
        """Counts an ended call by route, model and outcome, and adds its durations to the histograms.

        Also sets `upstream_answered_at` to now if upstream has answered, or `upstream_failed_at` if it was not reached.
        A call that has ended since its caller gave it too little time sets neither.
        """
        route, outcome = row["route"], str(row["outcome"])
        with self._lock:
            model = self._label(row)
            self._add(("calls", route, model, outcome), 1)
            for name, column in LATENCIES.items():
                milliseconds = row.get(column)
                if milliseconds is not None:
                    counts = self.histograms.get((name, route))
                    if counts is None:
                        counts = self.histograms[name, route] = [0] * (len(ENDS) + 2)
                    seconds = milliseconds / 1000
                    counts[bisect_left(ENDS, seconds)] += 1
                    counts[-1] += seconds
            if row.get("is_callers_timeout"):
                return
            if outcome in UNREACHED:
                self.upstream_failed_at = time.monotonic()
            elif row.get("upstream_ms") is not None and outcome != Outcome.CLIENT_CANCELLED:
                self.upstream_answered_at = time.monotonic()

    def count_refusal(self, reason: str) -> None:
        """Counts a request or connection that the gateway has refused, by the error code `reason`.

        `reason` becomes a label in `/metrics`, so it must not be a text that the client has sent.
        """
        with self._lock:
            self._add(("refused", reason), 1)

    def count_poll(self) -> None:
        """Counts a poll (the gateway's own request for a background response) that has found the response ended."""
        with self._lock:
            self._add(("background_looks",), 1)

    def count_dead_letter(self) -> None:
        """Counts a dead letter: a call whose row the database has refused."""
        with self._lock:
            self._add(("dead_letters",), 1)

    def count_damaged_records(self, records: int) -> None:
        """Counts unreadable journal records; `records` is their number."""
        with self._lock:
            self._add(("damaged_records",), records)

    def count_usage(self, rows: Iterable[SummedRow], replaced: Mapping[str, Sequence[SummedRow]] | None = None) -> None:
        """Counts rows of calls that were just written: tokens, dollars, calls of teams, and calls without a price.

        `replaced` maps a row's request id to the older rows that it replaces, which were counted before: only the
        difference is counted. Counters cannot fall: a lower cost counts as dollars taken back, and a lower number of
        tokens is ignored.
        """
        with self._lock:
            for row in rows:
                route, model = row["route"], self._label(row)
                before = replaced.get(str(row["request_id"]), ()) if replaced else ()
                for kind, column in TOKENS.items():
                    count = row[column] or 0
                    if before:
                        count -= sum(one.get(column) or 0 for one in before)
                    # Counters cannot fall: tokens in excess stay counted, dollars go to a second counter.
                    if count > 0:
                        self._add(("tokens", route, model, kind), count)
                dollars = row["cost"] or Decimal(0)
                if before:
                    dollars -= sum((one.get("cost") or Decimal(0) for one in before), Decimal(0))
                self._add_dollars(row, dollars)
                if (team := row.get("team")) and not before and not row["by_gateway"]:
                    self._add(("team_calls", self._team(team)), 1)
                if row.get("needs_price") and not any(one.get("needs_price") for one in before):
                    self._add(("unpriced_calls", route, model), 1)

    def count_repricing(self, before: Iterable[SummedRow], after: Iterable[SummedRow]) -> None:
        """Counts the changed costs of stored calls: increases as dollars spent, decreases as dollars taken back.

        `before` has the calls' rows with the old costs, and `after` the same rows with the new ones, in any order.
        """
        old = {row["request_id"]: row["cost"] or Decimal(0) for row in before}
        with self._lock:
            for row in after:
                dollars = (row["cost"] or Decimal(0)) - old[row["request_id"]]
                self._add_dollars(row, dollars)

    def snapshot(self) -> dict[str, object]:
        """Returns a copy of this process's counters and histograms, as values for a JSON report.

        `ServerCounters.add` adds up such copies of several processes.
        """
        with self._lock:
            return {
                "values": [[*key, value] for key, value in self.values.items()],
                "dollars": [[*key, str(value)] for key, value in self.dollars.items()],
                "histograms": [[*key, counts.copy()] for key, counts in self.histograms.items()],
            }

    def _label(self, row: CallRecord | SummedRow) -> str:
        if row["outcome"] == Outcome.SUCCESS:
            for name in (row.get("response_model"), row.get("request_model")):
                if name and len(self._models) < MOST_MODELS:
                    self._models.add(name)
        name = called_model(row)
        return name if not name or name in self._models else OTHER

    def _team(self, team: str) -> str:
        """Returns the label of a team in `/metrics`: its name or, beyond the first `MOST_TEAMS` teams, `other`."""
        if len(self._teams) < MOST_TEAMS:
            self._teams.add(team)
        return team if team in self._teams else OTHER

    def _add_dollars(self, row: SummedRow, dollars: Decimal) -> None:
        """Adds `dollars` to the counters of costs: that of the row's route and model, and that of its team, if any.

        A counter cannot fall. So there are separate counters of dollars taken back: a negative amount is added to them,
        without its sign.
        """
        # Two counters, because a counter cannot fall.
        if not dollars:
            return
        name = "cost_dollars" if dollars > 0 else "cost_taken_back_dollars"
        keys: list[tuple[str, ...]] = [(name, row["route"], self._label(row))]
        if team := row.get("team"):
            keys.append((f"team_{name}", self._team(team)))
        for key in keys:
            self.dollars[key] = self.dollars.get(key, Decimal(0)) + abs(dollars)

    def _add(self, key: tuple[str, ...], amount: float) -> None:
        self.values[key] = self.values.get(key, 0) + amount


class ServerCounters:
    """The sums of the counters and histograms of several processes; `add` adds those of one process, from a report."""

    def __init__(self) -> None:
        self.values: CounterValues = {}
        self.dollars: Dollars = {}
        self.histograms: Histograms = {}

    def add(self, snapshot: Mapping[str, Any]) -> None:
        for *key, value in snapshot.get("values", ()):
            if key[0] in DOLLARS:  # of a version that counted dollars as floating-point numbers
                self._add_dollars(tuple(key), round(Decimal(repr(value)), 8))
            else:
                self.values[tuple(key)] = self.values.get(tuple(key), 0) + value
        for *key, value in snapshot.get("dollars", ()):
            self._add_dollars(tuple(key), Decimal(value))
        for name, route, counts in snapshot.get("histograms", ()):
            mine = self.histograms.get((name, route), [0] * len(counts))
            if len(mine) == len(counts):  # otherwise a version with other buckets has written the snapshot
                self.histograms[name, route] = [a + b for a, b in zip(mine, counts, strict=True)]

    def snapshot(self) -> dict[str, object]:
        return {
            "values": [[*key, value] for key, value in self.values.items()],
            "dollars": [[*key, str(value)] for key, value in self.dollars.items()],
            "histograms": [[*key, counts] for key, counts in self.histograms.items()],
        }

    def _add_dollars(self, key: tuple[str, ...], dollars: Decimal) -> None:
        self.dollars[key] = self.dollars.get(key, Decimal(0)) + dollars


counters = WorkerCounters()
