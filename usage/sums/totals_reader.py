"""Reads any range of time from the table `UsageTotal`, in few rows, however many calls there were.

A range is divided into whole months, then into whole days at its ends, whole hours at the ends of those, and minutes.
Totals of minutes are deleted after some days; the start and the end of an older range are rounded down to the hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import IntegerField, Q, Sum
from django.db.models.functions import Cast, Extract, Floor

from usage.models import Dimension, Span, UsageTotal
from usage.sums.histogram import added, percentile, unpack
from usage.sums.sum_tables import DURATION, HISTOGRAMS, TOTAL_SUMS

COUNTERS = ("calls", "errors", "unpriced_calls", *TOTAL_SUMS)
EXACT = tuple(name for name in COUNTERS if name != DURATION)  # a sum of doubles depends on their order
COMPLETE_MONTHS = f"""
    WITH days AS (
        SELECT date_trunc('month', start, 'UTC') AS month, dimension, value,
               {", ".join(f"sum({name}) AS {name}" for name in EXACT)}
        FROM usage_usagetotal WHERE span = 'day' AND dimension IN ('all', 'outcome')
          AND start >= %(first)s AND start < %(last)s GROUP BY 1, 2, 3
    ), months AS (
        SELECT start AS month, dimension, value, {", ".join(EXACT)} FROM usage_usagetotal
        WHERE span = 'month' AND dimension IN ('all', 'outcome') AND start >= %(first)s AND start < %(last)s
    )
    SELECT month FROM days FULL JOIN months USING (month, dimension, value) GROUP BY month
    HAVING bool_and({" AND ".join(f"COALESCE(days.{name}, 0) = COALESCE(months.{name}, 0)" for name in EXACT)})
    ORDER BY month
"""
LENGTHS = {Span.MINUTE: timedelta(minutes=1), Span.HOUR: timedelta(hours=1), Span.DAY: timedelta(days=1)}
Amount = float | Decimal  # of one column of the sums, such as calls or dollars
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTES_KEPT = timedelta(days=3)  # older totals of minutes are deleted; only the shortest ranges of time need them
MINUTES_READABLE = MINUTES_KEPT - timedelta(hours=12)  # shorter, so that no page reads totals that are being deleted


@dataclass
class Totals:
    """The sums of some calls: counts of calls and errors, tokens, dollars, milliseconds, histograms of latencies."""

    calls: int = 0
    errors: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    estimated_cost: Decimal = Decimal(0)
    provisional_cost: Decimal = Decimal(0)
    duration_ms: float = 0.0
    histograms: dict[str, list[int]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        own = vars(self)  # quicker than `setattr` by half: a dashboard adds up some ten thousand rows
        for name in COUNTERS:
            own[name] += row[name]
        for name in HISTOGRAMS:
            if counts := row.get(f"{name}_histogram"):
                self.add_histogram(name, counts)

    def merge(self, other: Totals) -> None:
        """Adds the sums of other calls to these sums, including their histograms."""
        self.add(vars(other))
        for name, counts in other.histograms.items():
            self.add_histogram(name, counts)

    def add_histogram(self, name: str, counts: Sequence[int]) -> None:
        self.histograms[name] = added(self.histograms.get(name, []), counts)

    def percentile(self, name: str, share: float) -> float | None:
        """Returns a percentile of one latency of these calls, in milliseconds; `share` is the percentile from 0 to 1.

        Returns None if no call has this latency, or if a histogram of durations lacks some of the calls.
        """
        histogram = self.histograms.get(name, [])
        if name == DURATION and sum(histogram) != self.calls:
            # A percentile of the others would pass for one of all calls.
            return None
        return percentile(histogram, share)


def read_totals(start: datetime, end: datetime, now: datetime) -> Totals:
    """Reads the sums of all calls that began from `start` until `end` from the database.

    A `start` or `end` more than `MINUTES_READABLE` before `now` is rounded down to the hour, since minutes are deleted.
    """
    totals = Totals()
    rows = UsageTotal.objects.filter(within_range(start, end, now), dimension=Dimension.ALL)
    for row in rows.values(*COUNTERS, *(f"{name}_histogram" for name in HISTOGRAMS)):
        totals.add(row)
    return totals


def read_by_value(
    dimensions: Iterable[Dimension], start: datetime, end: datetime, now: datetime
) -> dict[str, dict[str, Totals]]:
    """Reads the sums of the calls that began from `start` until `end`, grouped by key, model, route or outcome.

    Returns for each of the `dimensions` a map from values, such as names of models, to sums without histograms. Values
    with the most calls come first; values without calls, tokens and cost are left out.
    """
    found: dict[str, dict[str, Totals]] = {dimension: {} for dimension in dimensions}
    rows = UsageTotal.objects.filter(within_range(start, end, now), dimension__in=list(found))
    groups = rows.values("dimension", "value").annotate(sum_of_calls=Sum("calls")).order_by("-sum_of_calls", "value")
    for dimension, value, calls, *sums in groups.values_list("dimension", "value", "sum_of_calls", *map(Sum, COUNTERS)):
        totals = Totals()
        totals.add(dict(zip(COUNTERS, sums, strict=True)))
        if calls or totals.cost or totals.input_tokens or totals.output_tokens:
            found[dimension][value] = totals
    return found


def read_durations(
    wanted: Mapping[str, Collection[str]], start: datetime, end: datetime, now: datetime
) -> dict[str, dict[str, list[int]]]:
    """Reads histograms of the durations of the calls that began from `start` until `end`, by key, model or route.

    `wanted` maps a dimension, such as `model`, to the values to read; the result maps it to a dict of their histograms.
    """
    # The sums of thousands of values are read in a moment, but not their histograms.
    found: dict[str, dict[str, list[int]]] = {dimension: {} for dimension in wanted}
    # Each alternative is a whole range of the primary key: of alternatives within each other PostgreSQL reads far more.
    groups = [
        Q(span=span, dimension=dimension, start__gte=first, start__lt=last, value__in=list(values))
        for span, first, last in pieces_of_range(start, end, now, complete_months(start, end))
        for dimension, values in wanted.items()
        if values
    ]
    if not groups:
        return found
    rows = UsageTotal.objects.filter(reduce(or_, groups))
    for dimension, value, *histograms in rows.values_list("dimension", "value", "duration_ms_histogram", "durations"):
        before, packed = histograms  # the sum of both counts
        for histogram in (before, unpack(packed)):
            if histogram:
                found[dimension][value] = added(found[dimension].get(value, []), histogram)
    return found


@dataclass(frozen=True)
class Series:
    """The data of a dashboard's charts over one range of time, which is divided into bins.

    Each list has one item for each bin; `bins` has the times at which they begin. Only calls that began from `start`
    until before `end` are counted.

    * `everything`: the sums of all calls of each bin; None for a bin without calls.
    * `by_value`: for each dimension, such as the model, and each of its values, the sum of one column in each bin, such
      as the cost.
    """

    bins: list[datetime]
    everything: list[Totals | None]
    by_value: dict[Dimension, dict[str, list[Amount]]]
    start: datetime
    end: datetime


def read_series(
    start: datetime, end: datetime, span: Span, step: timedelta, columns: Mapping[Dimension, str]
) -> Series:
    """Reads the data of charts from the database: the sums of all calls, and of groups of calls, in each bin of time.

    `span` says which stored totals are read, such as those of hours. `step`, the length of a bin, is a multiple of it.
    `columns` maps each dimension by which calls are grouped, such as the model, to the column that is added up for each
    group, such as `cost`.
    """
    bins = bins_of(start, end, step)
    first = bins[0]
    # The database computes the number of the bin, because converting times in Python costs more than all else here.
    seconds = Extract("start", "epoch", tzinfo=UTC) - int(first.timestamp())
    place = Cast(Floor(seconds / int(step.total_seconds())), IntegerField())
    totals = UsageTotal.objects.filter(span=span, start__gte=first, start__lt=end).annotate(bin=place)
    everything: list[Totals | None] = [None] * len(bins)
    names = ("bin", *COUNTERS, *(f"{name}_histogram" for name in HISTOGRAMS))
    for row in totals.filter(dimension=Dimension.ALL).values(*names):
        bin_totals = everything[row["bin"]] = everything[row["bin"]] or Totals()
        bin_totals.add(row)
    by_value: dict[Dimension, dict[str, list[Amount]]] = {}
    for dimension, column in columns.items():
        lines: dict[str, list[Amount]] = defaultdict(lambda: [0] * len(bins))
        sums = totals.filter(dimension=dimension).values("value", "bin").annotate(amount=Sum(column))
        for value, number, amount in sums.values_list("value", "bin", "amount"):
            lines[value][number] = amount
        by_value[dimension] = dict(lines)
    return Series(bins, everything, by_value, first, ceiling(end, span))


def bins_of(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Returns the times at which the bins of a chart from `start` until `end` begin; each bin has the length `step`.

    All charts with this length of a bin have the same bins, so the first one may begin before `start`.
    """
    first = EPOCH + (start - EPOCH) // step * step
    return [first + number * step for number in range(-((first - end) // step))]


def complete_months(start: datetime, end: datetime, *, partly: bool = False) -> list[datetime]:
    """Returns the beginnings of those months in a range of time whose monthly sums count all calls of the month.

    Months must lie wholly in the range or, with `partly`, at least partly. A month is left out if an earlier release
    counted some of its calls by day only; the command `ledger sum` adds these to the month.
    """
    first, last = (floor if partly else ceiling)(start, Span.MONTH), (ceiling if partly else floor)(end, Span.MONTH)
    if first >= last:
        return []
    with connection.cursor() as cursor:
        cursor.execute(COMPLETE_MONTHS, {"first": first, "last": last})
        return [month for (month,) in cursor.fetchall()]


def pieces_of_range(
    start: datetime, end: datetime, now: datetime, months: Iterable[datetime] = ()
) -> Iterator[tuple[Span, datetime, datetime]]:
    """Divides a range of time into pieces of months, days, hours and minutes, so that few totals must be read.

    Yields each piece's unit, start and end. `months` are the beginnings, in order, of months that may be pieces; each
    lies wholly in the range. A `start` or `end` older than `MINUTES_READABLE` is rounded down to the hour.
    """
    if start < now - MINUTES_READABLE:
        start = floor(start, Span.HOUR)
        if end < now - MINUTES_READABLE:
            end = floor(end, Span.HOUR)
    spans = [Span.DAY, Span.HOUR, Span.MINUTE]
    months = list(months)
    while months:
        first = last = months[0]
        while months and months[0] == last:  # months that follow each other are one piece
            last = next_month(months.pop(0))
        yield from _pieces(start, first, spans)
        yield Span.MONTH, first, last
        start = last
    yield from _pieces(start, end, spans)


def floor(moment: datetime, span: Span) -> datetime:
    if span == Span.MONTH:
        return floor(moment, Span.DAY).replace(day=1)
    length = LENGTHS[span]
    return EPOCH + (moment - EPOCH) // length * length


def ceiling(moment: datetime, span: Span) -> datetime:
    whole = floor(moment, span)
    if whole == moment:
        return whole
    return next_month(whole) if span == Span.MONTH else whole + LENGTHS[span]


def next_month(moment: datetime) -> datetime:
    """Returns the beginning of the month (UTC) that follows the month of a time."""
    return floor(floor(moment, Span.MONTH) + timedelta(days=31), Span.MONTH)


def starts_of(span: Span, first: datetime, last: datetime) -> Iterator[datetime]:
    """Yields the beginnings of the months, days, hours or minutes from `first` until just before `last`."""
    while first < last:
        yield first
        first = next_month(first) if span == Span.MONTH else first + LENGTHS[span]


def _pieces(start: datetime, end: datetime, spans: Sequence[Span]) -> Iterator[tuple[Span, datetime, datetime]]:
    if start >= end or not spans:
        return
    span, *finer = spans
    if not finer:  # a part of a minute counts as a whole minute
        yield span, floor(start, span), end
        return
    if (first := ceiling(start, span)) >= (last := floor(end, span)):
        yield from _pieces(start, end, finer)
        return
    yield from _pieces(start, first, finer)
    yield span, first, last
    yield from _pieces(last, end, finer)


def within_range(start: datetime, end: datetime, now: datetime) -> Q:
    """Returns the condition of the rows of `UsageTotal` that add up to the calls from `start` until before `end`."""
    pieces = pieces_of_range(start, end, now, complete_months(start, end))
    return reduce(or_, (Q(span=span, start__gte=first, start__lt=last) for span, first, last in pieces), Q(pk__in=[]))
