"""Reads the numbers of a dashboard for a range of time, and for the range before it.

The numbers are the sums of calls: in total, by key, model and route, and in the bins of the charts.

The numbers for all keys are read from the totals, to the minute. The numbers for one key are read from the sums of that
key's days, and from those of its hours if the range or a bin does not contain the whole day. So its ranges of time
have whole hours. `DashboardNumbers.time_range` is the range that was counted: whatever a dashboard says about its time,
it says about this one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from usage.models import Dimension, Outcome, Span
from usage.page_data.comparison import Comparison, compare, read_compared
from usage.sums.breakdown_reader import HISTOGRAM, KEY, rows_of_range, sum_sql
from usage.sums.ranges import TimeRange
from usage.sums.ranking import lines_of_models
from usage.sums.sum_tables import DURATION, histograms_sql
from usage.sums.totals_reader import (
    COUNTERS,
    EPOCH,
    LENGTHS,
    Amount,
    Series,
    Totals,
    bins_of,
    ceiling,
    floor,
    read_by_value,
    read_series,
    read_totals,
)

CHARTED = {Dimension.OUTCOME: "calls", Dimension.MODEL: "cost"}
GROUPS = ("bin", "model", "route", "outcome")
USED = (Dimension.KEY, Dimension.ROUTE, Dimension.MODEL)
USED_BY_KEY = (Dimension.ROUTE, Dimension.MODEL)
# The database adds the histograms up, because sending thousands of them takes longer. The histograms of whole days have
# been added up before.
LATENCIES = f"""
    WITH counted AS (
        SELECT hour AS start, first, histogram FROM usage_usagehour, LATERAL {histograms_sql(DURATION)}
        WHERE key_name = %(key)s AND (hour >= %(start)s AND hour < %(first)s OR hour >= %(last)s AND hour < %(end)s)
        UNION ALL
        SELECT start, first, histogram FROM usage_usagetotal, LATERAL {histograms_sql(DURATION)}
        WHERE span = 'day' AND dimension = 'key' AND value = %(key)s AND start >= %(first)s AND start < %(last)s
    ), sums AS (
        SELECT date_bin(make_interval(secs => %(step)s), start, %(epoch)s) AS bin, first + number AS bucket,
               sum(calls)::bigint AS calls
        FROM counted, unnest(histogram) WITH ORDINALITY AS counts(calls, number) WHERE calls <> 0 GROUP BY 1, 2
    )
    SELECT bin, array_agg(bucket), array_agg(calls) FROM sums GROUP BY bin
"""

DURATIONS_OF_KEY = f"""
    SELECT model, route, first + number, sum(count)::bigint
    FROM ({{rows}}) AS sums, LATERAL {histograms_sql(DURATION)},
         unnest(histogram) WITH ORDINALITY AS counts(count, number)
    WHERE count <> 0 GROUP BY 1, 2, 3
"""
SUMMED = tuple(name for name in COUNTERS if name != "errors")
# `bins_of` computes the starts of bins by the same rule.
SUMS_OF_KEY = f"""
    SELECT date_bin(make_interval(secs => %s), start, %s), model, route, outcome, {", ".join(map(sum_sql, SUMMED))}
    FROM ({{rows}}) AS sums GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True)
class DashboardNumbers:
    """All numbers that a dashboard shows for a range of time, as they are read from the database.

    * `time_range`: the range whose calls were counted.
    * `totals`: the sums of this range.
    * `comparison`: the spans of this range and of the previous one whose sums are compared.
    * `compared` and `before`: the sums of these two spans; zeros if there is nothing to compare.
    * `by_value`: for each dimension with a table (key, model and route; no key in a key's dashboard), the totals by
      name, with the most calls first.
    * `series`: the data of the charts.
    * `step`: the length of a chart's bins.
    """

    time_range: TimeRange
    totals: Totals
    compared: Totals
    before: Totals
    by_value: dict[str, dict[str, Totals]]
    step: timedelta
    series: Series
    comparison: Comparison

    @property
    def model_lines(self) -> dict[str, str]:
        """A map from names of models to the undated name under which the dashboard shows them together.

        `gpt-4o` and `gpt-4o-2024-08-06`, for example, become one line. A model with a single name is not in the map.
        """
        return lines_of_models({*self.by_value[Dimension.MODEL], *self.series.by_value[Dimension.MODEL]})


def read_all(time_range: TimeRange, now: datetime) -> DashboardNumbers:
    span, step = time_range.bins(now)
    comparison, compared, before = read_compared(compare(time_range, now), now)
    return DashboardNumbers(
        time_range=time_range,
        totals=read_totals(time_range.start, time_range.end, now),
        compared=compared,
        before=before,
        by_value=read_by_value(USED, time_range.start, time_range.end, now),
        step=step,
        series=read_series(time_range.start, time_range.end, span, step, CHARTED),
        comparison=comparison,
    )


def read_key(key: str, time_range: TimeRange, now: datetime) -> DashboardNumbers:
    """Reads the numbers of one key's dashboard from the database, in a few queries.

    The range of time is extended to whole hours.
    """
    # Sums by key and model exist for whole hours only.
    time_range = time_range.in_hours(now)
    start, end = time_range.start, time_range.end
    step = max(time_range.bins(now)[1], timedelta(hours=1))
    bins = bins_of(start, end, step)
    by_dimension: dict[Dimension, dict[str, list[Amount]]] = {dimension: {} for dimension in CHARTED}
    series = Series(bins, [None] * len(bins), by_dimension, start, end)
    comparison, compared, before = read_compared(compare(time_range, now), now, key)
    by_value: dict[str, dict[str, Totals]] = {dimension: {} for dimension in USED_BY_KEY}
    reading = DashboardNumbers(time_range, Totals(), compared, before, by_value, step, series, comparison)
    for row in _sums(key, start, end, step):
        _add(reading, row)
    for moment, histogram in _latencies(key, start, end, step):
        for totals in (reading.totals, _in_bin(reading, _number(reading, moment))):
            totals.add_histogram("duration_ms", histogram)
    for groups in reading.by_value.values():
        ranked = sorted(groups.items(), key=lambda group: (-group[1].calls, group[0]))
        groups.clear()
        groups.update(ranked)
    return reading


def read_durations_of_key(
    key: str, time_range: TimeRange, wanted: Mapping[str, Collection[str]]
) -> dict[str, dict[str, list[int]]]:
    """Reads the histograms of the durations of one key's calls, by model and by route, from the database.

    `wanted` maps a dimension (model, route) to the names to read. The result maps each dimension to a dict from name to
    histogram: a list with the number of calls in each bucket. A name without a histogram is left out.

    The range of time is extended to whole hours. Hours that are weeks old have no histograms any more.
    """
    found: dict[str, dict[str, list[int]]] = {dimension: {} for dimension in wanted}
    of_key = {KEY: key}
    rows = rows_of_range(time_range.start, time_range.end, HISTOGRAM, of_key, coarsest=Span.MONTH, by_key=True)
    with connection.cursor() as cursor:
        cursor.execute(DURATIONS_OF_KEY.format(rows=rows.sql), rows.values)
        for model, route, number, calls in cursor.fetchall():
            for dimension, value in ((Dimension.MODEL, model), (Dimension.ROUTE, route)):
                if value in wanted[dimension]:
                    histogram = found[dimension].setdefault(value, [])
                    histogram += [0] * (number - len(histogram))
                    histogram[number - 1] += calls
    return found


def _add(reading: DashboardNumbers, row: dict[str, Any]) -> None:
    """Adds one row of a key's sums, as `_sums` yields it, to `reading`, the numbers of the key's dashboard."""
    number = _number(reading, row["bin"])
    reading.totals.add(row)
    _in_bin(reading, number).add(row)
    for dimension, column in CHARTED.items():
        line = reading.series.by_value[dimension].setdefault(row[dimension.value], [0] * len(reading.series.bins))
        line[number] += row[column]
    for dimension in USED_BY_KEY:
        reading.by_value[dimension].setdefault(row[dimension.value], Totals()).add(row)


def _number(reading: DashboardNumbers, moment: datetime) -> int:
    return (moment - reading.series.bins[0]) // reading.step


def _in_bin(reading: DashboardNumbers, number: int) -> Totals:
    everything = reading.series.everything
    totals = everything[number] = everything[number] or Totals()
    return totals


def _sums(key: str, start: datetime, end: datetime, step: timedelta) -> Iterator[dict[str, Any]]:
    """Reads the sums of one key's calls from the database; yields a dictionary per chart bin, model, route and outcome.

    Each dictionary has `bin` (the bin's start), `model`, `route`, `outcome`, the sums named in `SUMMED` (such as
    `calls`), and `errors`, the number of failed calls.
    """
    coarsest = Span.DAY if step >= LENGTHS[Span.DAY] else Span.HOUR
    rows = rows_of_range(start, end, SUMMED, {KEY: key}, coarsest=coarsest, by_key=True)
    with connection.cursor() as cursor:
        cursor.execute(SUMS_OF_KEY.format(rows=rows.sql), [step.total_seconds(), EPOCH, *rows.values])
        for values in cursor.fetchall():
            row = dict(zip((*GROUPS, *SUMMED), values, strict=True))
            yield row | {"errors": 0 if row["outcome"] == Outcome.SUCCESS else row["calls"]}


def _latencies(key: str, start: datetime, end: datetime, step: timedelta) -> Iterator[tuple[datetime, list[int]]]:
    """Reads the histograms of the durations of one key's calls from the database, one for each bin of the charts.

    Yields the start of the bin, and a list with the number of calls in each bucket of the bin's histogram.
    """
    first, last = ceiling(start, Span.DAY), floor(end, Span.DAY)
    if step < LENGTHS[Span.DAY] or first > last:
        first = last = end
    ends = {"start": start, "first": first, "last": last, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(LATENCIES, {**ends, "key": key, "step": step.total_seconds(), "epoch": EPOCH})
        for moment, buckets, counts in cursor.fetchall():
            histogram = [0] * max(buckets)
            for bucket, count in zip(buckets, counts, strict=True):
                histogram[bucket - 1] = count
            yield moment, histogram
