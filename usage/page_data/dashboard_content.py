"""Reads the whole content of a dashboard for a range of time.

The content is tiles, charts, tables of the costliest keys, models and routes, the newest errors, and the state of the
server's parts.

Everything but the newest errors is read from totals, so a dashboard costs as much at five million calls as at five.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from usage.database.snapshot import one_snapshot
from usage.live.status import ServerStatus
from usage.models import Dimension, Outcome, Request, UsageTotal
from usage.page_data import formatting
from usage.page_data.dashboard_reader import DashboardNumbers, read_all, read_durations_of_key, read_key
from usage.page_data.dashboard_tiles import PartStatus, Tile, make_statuses, make_tiles
from usage.page_data.filters import ANY_DATE, in_address
from usage.page_data.newest_calls import read_newest_failures, read_newest_failures_of_key
from usage.sums.ranges import TimeRange
from usage.sums.ranking import RankedGroup, add_durations, all_others, dates_of, lines_of_models, rank
from usage.sums.sum_tables import DURATION
from usage.sums.totals_reader import Totals, read_durations

MAX_TABLE_ROWS = 8
MAX_CHART_SERIES = 5  # models in the chart of dollars; all others are added up to one further series
MAX_NEWEST_ERRORS = 8
TotalsByBin = Sequence[Totals | None]
NamesByDimension = Mapping[str, Collection[str]]  # of keys, models and routes, by dimension
HistogramsByDimension = Mapping[str, Mapping[str, Sequence[int]]]  # by dimension and name


class ChartSeries(TypedDict):
    """A line of a chart, or all its bars of one colour: one value for each bin of time, None where it is unknown."""

    name: str
    values: Sequence[float | None]


class Charts(TypedDict):
    """The data of all charts of a dashboard, as the script of the page reads them.

    `step` is the length of a bin in seconds. The calls of all bins began from `start` until before `end`, so the first
    and the last bin may count less time than they are long.
    """

    times: list[str]  # where the bins begin, in ISO 8601
    step: float
    start: str  # in ISO 8601
    end: str
    calls: list[ChartSeries]
    dollars: list[ChartSeries]
    tokens: list[ChartSeries]
    latency: list[ChartSeries]  # milliseconds


@dataclass(frozen=True)
class UsageRow:
    """One row of the dashboard's tables of keys, models and routes: a name, with the usage and cost of its calls.

    If there are more names than rows, one further row adds up the others. A table of several rows ends with the total.
    """

    name: str
    filter_value: str | None  # selects these calls in the list of requests; None for "others" and the total
    dates: str  # those in the names of the model, if it has several; else empty
    calls: int
    share: int  # of the cost of all calls, in percent
    errors: str  # the percentage of the calls that failed
    tokens: int
    cost: str
    uncertain: Sequence[str]  # which of these dollars are not exact, such as "$0.30 estimated"; what lacks a price
    p95: str  # the duration that 95 % of the calls have not exceeded


@dataclass(frozen=True)
class Dashboard:
    """The content of one dashboard: tiles, charts, tables, the newest errors, and the state of the server's parts.

    `time_range` is the range whose calls were counted. `used` has the tables of keys, models and routes, by the name of
    the dimension.
    """

    time_range: TimeRange
    tiles: list[Tile]
    charts: Charts
    used: dict[str, list[UsageRow]]
    errors: list[Request]
    statuses: list[PartStatus]
    is_empty: bool  # no call has ever been made
    before: str  # the range of time from which the tiles show changes, as text (UTC)

    @property
    def has_changes(self) -> bool:
        """True if a tile shows a change from the range of time before."""
        return any(figure.change for tile in self.tiles for figure in (tile.main, *tile.parts))


@one_snapshot()
def read_dashboard(time_range: TimeRange, status: ServerStatus, now: datetime) -> Dashboard:
    """Reads the content of the dashboard of all calls, for a range of time, from the database."""
    reading = read_all(time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, status),
        charts=_charts(reading, with_overhead=True),
        used=_usage_tables(reading, lambda shown: read_durations(shown, time_range.start, time_range.end, now)),
        errors=read_newest_failures(time_range, MAX_NEWEST_ERRORS),
        statuses=make_statuses(reading, status),
        is_empty=not reading.totals.calls and not UsageTotal.objects.exists(),
        before=formatting.period(*reading.before_range),
    )


@one_snapshot()
def read_key_dashboard(key: str, time_range: TimeRange, now: datetime) -> Dashboard:
    """Reads the content of one key's dashboard, for a range of time extended to whole hours, from the database.

    It has no table of keys, and nothing about the server: no states, no calls in flight, no latency of the gateway
    itself. Of its newest errors there is one for each hour and kind.
    """
    reading = read_key(key, time_range, now)
    time_range = reading.time_range
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, None),
        charts=_charts(reading),
        used=_usage_tables(reading, lambda shown: read_durations_of_key(key, time_range, shown)),
        errors=read_newest_failures_of_key(key, time_range)[:MAX_NEWEST_ERRORS],
        statuses=[],
        is_empty=False,
        before=formatting.period(*reading.before_range),
    )


# Charts


def _charts(reading: DashboardNumbers, *, with_overhead: bool = False) -> Charts:
    series = reading.series
    everything = series.everything
    outcomes = [(label, series.by_value[Dimension.OUTCOME].get(value)) for value, label in Outcome.choices]
    latency = [
        ChartSeries(name=f"p{share * 100:.0f}", values=_percentiles(everything, "duration_ms", share))
        for share in (0.5, 0.95, 0.99)
    ]
    if with_overhead:
        latency.append(ChartSeries(name="Gateway, p95", values=_percentiles(everything, "overhead_ms", 0.95)))
    return Charts(
        times=[moment.isoformat() for moment in series.bins],
        step=reading.step.total_seconds(),
        start=series.start.isoformat(),
        end=series.end.isoformat(),
        calls=[ChartSeries(name=label.capitalize(), values=line) for label, line in outcomes if line is not None],
        dollars=_dollars_by_model(series.by_value[Dimension.MODEL], _model_lines(reading)),
        tokens=_tokens(everything),
        latency=latency,
    )


def _tokens(everything: TotalsByBin) -> list[ChartSeries]:
    uncached = _values(everything, lambda totals: totals.input_tokens - totals.cached_tokens)
    return [
        ChartSeries(name="Input, not cached", values=uncached),
        ChartSeries(name="Input, cached", values=_values(everything, lambda totals: totals.cached_tokens)),
        ChartSeries(name="Output", values=_values(everything, lambda totals: totals.output_tokens)),
    ]


def _dollars_by_model(costs: Mapping[str, Sequence[float | Decimal]], lines: Mapping[str, str]) -> list[ChartSeries]:
    """Returns the lines of the chart of dollars: one for each of the costliest models, and one for all other models.

    Models without any cost are left out. `costs` maps names of models to their dollars in each bin of time. A model may
    have several names, with and without a date; `lines` maps each of these names to the name of their common line.
    """
    joined: dict[str, list[Decimal]] = {}
    for name, values in costs.items():
        line = lines.get(name, name)
        before = joined.get(line, [Decimal(0)] * len(values))
        joined[line] = [one + Decimal(other) for one, other in zip(before, values, strict=True)]
    ranked = sorted((name for name, values in joined.items() if any(values)), key=lambda name: -sum(joined[name]))
    charted = [
        ChartSeries(name=name or "no model", values=_dollars(joined[name])) for name in ranked[:MAX_CHART_SERIES]
    ]
    if rest := ranked[MAX_CHART_SERIES:]:
        sums = [sum(values, Decimal(0)) for values in zip(*(joined[name] for name in rest), strict=True)]
        charted.append(ChartSeries(name=formatting.others(len(rest)), values=_dollars(sums)))
    return charted


def _dollars(values: Sequence[Decimal]) -> list[float]:
    return [round(float(value), 8) for value in values]


def _values(line: TotalsByBin, read: Callable[[Totals], float]) -> list[float]:
    """Returns the values of a line in a chart, one for each bin of time; 0 for a bin without calls.

    The function `read` takes the totals of a bin and returns its value.
    """
    return [read(totals) if totals else 0 for totals in line]


def _percentiles(line: TotalsByBin, column: str, share: float) -> list[float | None]:
    return [totals.percentile(column, share) if totals else None for totals in line]


# Tables


def _usage_tables(
    reading: DashboardNumbers, read: Callable[[NamesByDimension], HistogramsByDimension]
) -> dict[str, list[UsageRow]]:
    """Returns a dashboard's tables of keys, models and routes as lists of rows, by dimension.

    The function `read` reads the histograms of call durations for the keys, models and routes that get a row.
    """
    lines = _model_lines(reading)
    ranked = {
        dimension: rank(groups, lines if dimension == Dimension.MODEL else {})
        for dimension, groups in reading.by_value.items()
    }
    durations = read(
        {
            dimension: [name for group in groups[:MAX_TABLE_ROWS] for name in group.members]
            for dimension, groups in ranked.items()
        }
    )
    for dimension, groups in ranked.items():
        add_durations(groups[:MAX_TABLE_ROWS], durations[dimension])
    return {dimension: _usage_rows(groups, reading.totals) for dimension, groups in ranked.items()}


def _model_lines(reading: DashboardNumbers) -> dict[str, str]:
    """Returns a map from names of models to the undated name under which the dashboard shows them together.

    `gpt-4o` and `gpt-4o-2024-08-06`, for example, become one line. A model with a single name is not in the map.
    """
    return lines_of_models({*reading.by_value[Dimension.MODEL], *reading.series.by_value[Dimension.MODEL]})


def _usage_rows(ranked: Sequence[RankedGroup], total: Totals) -> list[UsageRow]:
    """Returns the rows of one table of the dashboard: the costliest groups, all others together, and the total.

    The row for the others exists only if there are more than `MAX_TABLE_ROWS` groups, the total only below several
    rows.
    """
    shown = ranked[:MAX_TABLE_ROWS]
    rows = [_usage_row(group.name, group.totals, total, group) for group in shown]
    if rest := ranked[MAX_TABLE_ROWS:]:
        rows.append(_usage_row(formatting.others(len(rest)), all_others(rest, shown, total), total))
    if len(rows) > 1:
        rows.append(_usage_row("Total", total, total))
    return rows


def _usage_row(name: str, totals: Totals, total: Totals, group: RankedGroup | None = None) -> UsageRow:
    """Makes one row of a table of the dashboard from the sums of the row's calls (`totals`).

    `total` has the sums of all calls, to compute the row's share. `group` is None if the row adds up several groups.
    """
    dates = dates_of(group) if group and len(group.members) > 1 else []
    return UsageRow(
        name=name,
        filter_value=None if group is None else f"{name}{ANY_DATE}" if dates else in_address(name),
        dates=", ".join(dates),
        calls=totals.calls,
        share=round(100 * totals.cost / total.cost) if total.cost else 0,
        errors=formatting.share(totals.errors, totals.calls),
        tokens=totals.input_tokens + totals.output_tokens,
        cost=formatting.dollars(totals.cost if totals.cost or totals.unpriced_calls < totals.calls else None),
        uncertain=_uncertain(totals),
        p95=formatting.duration(totals.percentile(DURATION, 0.95)),
    )


def _uncertain(totals: Totals) -> list[str]:
    """Returns remarks on the cost of some calls: how many dollars are uncertain, and how many calls lack a price.

    Dollars are uncertain if they are estimated or use an assumed price. The list is empty if there is nothing to
    remark.
    """
    parts = formatting.uncertain_parts(totals.cost, totals.estimated_cost, totals.provisional_cost)
    if unpriced := totals.unpriced_calls:
        parts.append(f"{formatting.count(unpriced)} need{'s' if unpriced == 1 else ''} a price")
    return parts
