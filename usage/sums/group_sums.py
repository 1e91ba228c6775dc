"""The sums of groups of calls in memory, before `usage.sums.totals_rollup` adds them to the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from usage.call_record import SummedRow
from usage.models import Outcome
from usage.sums.histogram import bucket
from usage.sums.sum_tables import HISTOGRAMS, MAXES, PART_OF_KIND, POLL_SUMS, SUMS, TOKEN_MAXES, HistogramName

LATEST, EARLIEST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
NO_ID = UUID(int=0)


@dataclass
class Sums:
    """The sums of one group of calls, in memory: numbers of calls and errors, tokens, dollars, durations, histograms.

    * `totals`: the sum of each column, by name.
    * `histograms`: the numbers of calls in the buckets, by the name of a latency.
    * `maxima`: the longest duration and the highest token counts of a single call. They stay when a row is subtracted.
    """

    calls: int = 0
    errors: int = 0
    unpriced: int = 0
    totals: dict[str, Any] = field(default_factory=lambda: defaultdict(int))
    maxima: dict[str, float] = field(default_factory=lambda: defaultdict(int))
    histograms: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def add(self, row: SummedRow, sign: int) -> None:
        totals, maxima = self.totals, self.maxima
        is_poll = row["by_gateway"]
        self.unpriced += sign * row["needs_price"]
        if (part := PART_OF_KIND.get(row["cost_kind"])) and (dollars := row["cost"]):
            totals[part] += sign * dollars
        for name in POLL_SUMS if is_poll else SUMS:
            if value := row[name]:
                totals[name] += sign * value
        for most in TOKEN_MAXES if is_poll else MAXES:
            if (figure := row[most]) and figure > maxima[most]:
                maxima[most] = figure
        if is_poll:
            return
        self.calls += sign
        self.errors += sign * (row["outcome"] != Outcome.SUCCESS)
        for latency in HISTOGRAMS:
            if (milliseconds := row[latency]) is not None:
                self.histograms[latency][bucket(milliseconds)] += sign

    def merge(self, other: Sums, *, histograms: Collection[HistogramName] = HISTOGRAMS) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.unpriced += other.unpriced
        for name, total in other.totals.items():
            self.totals[name] += total
        for name, most in other.maxima.items():
            self.maxima[name] = max(self.maxima[name], most)
        for name in histograms:
            if counts := other.histograms.get(name):
                mine = self.histograms[name]
                for number, count in counts.items():
                    mine[number] += count


def merged(parts: Sequence[Sums]) -> Sums:
    """Adds up the sums of several groups of calls, and returns the result; a single group is returned as it is."""
    # A batch is of a few minutes, so most of its days and months have the same calls as its hours.
    if len(parts) == 1:
        return parts[0]
    whole = Sums()
    for part in parts:
        whole.merge(part)
    return whole


@dataclass
class Failures:
    """The failed calls with one kind of error: their number, when the first and the last began, the id of the last.

    `add` counts a call or, when its row is replaced, subtracts the earlier row. Subtracting lowers only the number:
    times and id stay, since those of the other calls are not known here.
    """

    calls: int = 0
    first_at: datetime = LATEST
    last_at: datetime = EARLIEST
    sample_id: UUID = NO_ID

    def add(self, row: SummedRow, sign: int) -> None:
        self.calls += sign
        self.first_at = min(self.first_at, row["started_at"])
        self.last_at = max(self.last_at, row["started_at"])
        self.sample_id = max(self.sample_id, UUID(str(row["request_id"])))
