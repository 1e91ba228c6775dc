"""Reads the whole content of a dashboard for a range of time.

The content is tiles, charts, tables of the costliest keys, models and routes, the newest errors, and the state of the
server's parts.

Everything but the newest errors is read from totals, so a dashboard costs as much at five million calls as at five.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from usage.database.snapshot import one_snapshot
from usage.live.status import ServerStatus
from usage.models import Dimension, Request, UsageTotal
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_charts import Charts, make_charts
from usage.page_data.dashboard.dashboard_reader import DashboardNumbers, read_all, read_durations_of_key, read_key
from usage.page_data.dashboard.dashboard_tiles import PartStatus, Tile, make_statuses, make_tiles, unpriced_models
from usage.page_data.filters import ANY_DATE, in_address
from usage.page_data.newest_calls import read_newest_failures, read_newest_failures_of_key
from usage.sums.ranges import TimeRange
from usage.sums.ranking import RankedGroup, add_durations, all_others, dates_of, rank
from usage.sums.sum_tables import DURATION
from usage.sums.totals_reader import Totals, read_durations

MAX_TABLE_ROWS = 8
MAX_NEWEST_ERRORS = 8
NamesByDimension = Mapping[str, Collection[str]]  # of keys, models and routes, by dimension
HistogramsByDimension = Mapping[str, Mapping[str, Sequence[int]]]  # by dimension and name


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
    failed: int  # calls: how many have failed; `errors` has at most the newest of them
    statuses: list[PartStatus]
    is_empty: bool  # no call has ever been made
    compared: str  # the sentence which times the tiles compare, or why they show no change
    unpriced_models: str  # the names of models with calls that lack a price; usually empty


@one_snapshot()
def read_dashboard(time_range: TimeRange, status: ServerStatus, now: datetime) -> Dashboard:
    """Reads the content of the dashboard of all calls, for a range of time, from the database."""
    reading = read_all(time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, status),
        charts=make_charts(reading, of_all_calls=True),
        used=_usage_tables(reading, lambda shown: read_durations(shown, time_range.start, time_range.end, now)),
        errors=read_newest_failures(time_range, MAX_NEWEST_ERRORS),
        failed=reading.totals.errors,
        statuses=make_statuses(status),
        is_empty=not reading.totals.calls and not UsageTotal.objects.exists(),
        compared=_compared(reading),
        unpriced_models=unpriced_models(reading.by_value[Dimension.MODEL]),
    )


@one_snapshot()
def read_key_dashboard(key: str, time_range: TimeRange, now: datetime) -> Dashboard:
    """Reads the content of one key's dashboard from the database, for a range of time extended to whole hours.

    The dashboard has no table of keys, and nothing about the server, such as states or the latency of upstream. Of the
    key's errors of one hour and kind, it has the last one.
    """
    reading = read_key(key, time_range, now)
    time_range = reading.time_range
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, None),
        charts=make_charts(reading),
        used=_usage_tables(reading, lambda shown: read_durations_of_key(key, time_range, shown)),
        errors=read_newest_failures_of_key(key, time_range)[:MAX_NEWEST_ERRORS],
        failed=reading.totals.errors,
        statuses=[],
        is_empty=False,
        compared=_compared(reading),
        unpriced_models=unpriced_models(reading.by_value[Dimension.MODEL]),
    )


def _compared(reading: DashboardNumbers) -> str:
    """Returns the sentence which times the tiles of a dashboard compare, or why they show no change."""
    comparison = reading.comparison
    if comparison.is_possible and not reading.before.calls:
        return (
            f"No change is shown: there were no calls in the time before ({formatting.period(*comparison.before)} UTC)"
        )
    return comparison.words


# Tables


def _usage_tables(
    reading: DashboardNumbers, read: Callable[[NamesByDimension], HistogramsByDimension]
) -> dict[str, list[UsageRow]]:
    """Returns a dashboard's tables of keys, models and routes as lists of rows, by dimension (`key`, `model`, `route`).

    `read` is a function that reads histograms of call durations. It is called once, with the names of the keys, models
    and routes that get a row of their own.
    """
    lines = reading.model_lines
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


def _usage_rows(ranked: Sequence[RankedGroup], total: Totals) -> list[UsageRow]:
    """Returns the rows of one table of the dashboard: those of the costliest groups, one for all others, and the total.

    A group is a key, model or route; `ranked` has the costliest first. At most `MAX_TABLE_ROWS` groups have a row of
    their own. A table of a single row has no total.
    """
    shown = ranked[:MAX_TABLE_ROWS]
    rows = [_usage_row(group.name, group.totals, total, group) for group in shown]
    if rest := ranked[MAX_TABLE_ROWS:]:
        rows.append(_usage_row(formatting.others(len(rest)), all_others(rest, shown, total), total))
    if len(rows) > 1:
        rows.append(_usage_row("Total", total, total))
    return rows


def _usage_row(name: str, totals: Totals, total: Totals, group: RankedGroup | None = None) -> UsageRow:
    """Makes one row of a table of the dashboard from `totals`, the sums of the row's calls.

    `total` has the sums of all calls, of which the row shows its share. `group` is the key, model or route of the row;
    None for a row of several of them.
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
        parts.append(formatting.need_price(unpriced))
    return parts
