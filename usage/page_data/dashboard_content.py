"""The whole content of a dashboard for a range of time: tiles, charts, tables of the most used keys, models and routes,
the newest errors, and the state of the server's parts.

Everything but the newest errors is read from totals, so a dashboard costs as much at five million calls as at five.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from usage.live.shipping_state import NOT_RUNNING
from usage.live.status import ServerStatus
from usage.models import Dimension, Outcome, Request, UsageTotal
from usage.page_data import formatting
from usage.page_data.dashboard_reader import DashboardNumbers, read_all, read_key
from usage.page_data.dashboard_tiles import Tile, make_tiles, ratio
from usage.page_data.newest_calls import read_newest_failures, read_newest_failures_of_key
from usage.sums.ranges import TimeRange
from usage.sums.totals_reader import Totals
from usage.untrusted_text import escape_invisible

MAX_TABLE_ROWS = 8
MAX_CHART_SERIES = 5  # models in the chart of dollars; all others are added up to one further series
MAX_NEWEST_ERRORS = 8
MAX_HEALTHY_LAG_SECONDS = 15.0  # from a call's end to its row in the table; usually it takes less than a second
MAX_ALERT_MODELS = 3
TotalsByBin = Sequence[Totals | None]


class ChartSeries(TypedDict):
    """One line of a chart, or its bars of one colour: a value for each bin of time, which is None if there is none."""

    name: str
    values: Sequence[float | None]


class Charts(TypedDict):
    """The data of all charts of a dashboard, as the script of the page reads them.

    `step` is the length of a bin in seconds.
    """

    times: list[str]  # where the bins begin, in ISO 8601
    step: float
    calls: list[ChartSeries]
    dollars: list[ChartSeries]
    tokens: list[ChartSeries]
    latency: list[ChartSeries]  # milliseconds


@dataclass(frozen=True)
class UsageRow:
    """One row of the dashboard's tables of keys, models and routes: a name, with the usage and cost of its calls."""

    name: str
    calls: int
    share: int  # of all calls, in percent
    errors: str  # the percentage of the calls that failed
    tokens: int
    cost: str
    uncertain: Sequence[str]  # which of these dollars are not exact, such as "$0.30 estimated"; what lacks a price
    average: str  # the average duration of a call


@dataclass(frozen=True)
class PartStatus:
    """The state of one part of the server, such as the database or the journal, as the dashboard shows it."""

    label: str
    text: str
    tone: str  # `good`, `bad`, or empty for neither
    page: str = ""  # the name of the admin's page with details


@dataclass(frozen=True)
class Dashboard:
    """The content of one dashboard: tiles, charts, tables, the newest errors, and the state of the server's parts.

    `used` has the tables of the keys, models and routes with the most calls, by the name of the dimension.
    """

    time_range: TimeRange
    tiles: list[Tile]
    charts: Charts
    used: dict[str, list[UsageRow]]
    errors: list[Request]
    statuses: list[PartStatus]
    is_empty: bool  # no call has ever been made


def read_dashboard(time_range: TimeRange, status: ServerStatus, now: datetime) -> Dashboard:
    """Reads the content of the dashboard of all calls, for a range of time, from the database, and returns it."""
    reading = read_all(time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, status, time_range),
        charts=_charts(reading, with_overhead=True),
        used=_usage_tables(reading),
        errors=read_newest_failures(time_range, MAX_NEWEST_ERRORS),
        statuses=[*_statuses(status), *_price_status(reading)],
        is_empty=not reading.totals.calls and not UsageTotal.objects.exists(),
    )


def read_key_dashboard(key: str, time_range: TimeRange, now: datetime) -> Dashboard:
    """Reads the content of one key's dashboard, for a range of time, from the database, and returns it.

    The state of the server and the latency that the gateway itself adds are left out.
    """
    reading = read_key(key, time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=make_tiles(reading, None, time_range),
        charts=_charts(reading),
        used=_usage_tables(reading),
        errors=read_newest_failures_of_key(key, time_range)[:MAX_NEWEST_ERRORS],
        statuses=[],
        is_empty=False,
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
        calls=[ChartSeries(name=label.capitalize(), values=line) for label, line in outcomes if line is not None],
        dollars=_dollars_by_model(series.by_value[Dimension.MODEL]),
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


def _dollars_by_model(costs: Mapping[str, Sequence[float | Decimal]]) -> list[ChartSeries]:
    """Returns the chart series of dollars: one for each of the models that cost the most, and one for all others."""
    lines = {name: [Decimal(value) for value in values] for name, values in costs.items()}
    ranked = sorted((name for name, values in lines.items() if any(values)), key=lambda name: -sum(lines[name]))
    charted = [ChartSeries(name=name or "no model", values=_dollars(lines[name])) for name in ranked[:MAX_CHART_SERIES]]
    if rest := ranked[MAX_CHART_SERIES:]:
        sums = [sum(values, Decimal(0)) for values in zip(*(lines[name] for name in rest), strict=True)]
        charted.append(ChartSeries(name=f"{len(rest)} others", values=_dollars(sums)))
    return charted


def _dollars(values: Sequence[Decimal]) -> list[float]:
    return [round(float(value), 8) for value in values]


def _values(line: TotalsByBin, read: Callable[[Totals], float]) -> list[float]:
    """Returns the values of a line in a chart: the number that `read` takes from each bin's totals, else 0."""
    return [read(totals) if totals else 0 for totals in line]


def _percentiles(line: TotalsByBin, column: str, share: float) -> list[float | None]:
    return [totals.percentile(column, share) if totals else None for totals in line]


# Tables


def _usage_tables(reading: DashboardNumbers) -> dict[str, list[UsageRow]]:
    return {dimension: _usage_rows(groups, reading.totals.calls) for dimension, groups in reading.by_value.items()}


def _usage_rows(groups: Mapping[str, Totals], calls: int) -> list[UsageRow]:
    return [
        UsageRow(
            name=name,
            calls=totals.calls,
            share=round(100 * totals.calls / calls) if calls else 0,
            errors=formatting.share(totals.errors, totals.calls),
            tokens=totals.input_tokens + totals.output_tokens,
            cost=formatting.dollars(totals.cost if totals.unpriced_calls < totals.calls else None),
            uncertain=_uncertain(totals),
            average=formatting.duration(ratio(totals.duration_ms, totals.calls)),
        )
        for name, totals in list(groups.items())[:MAX_TABLE_ROWS]
    ]


def _uncertain(totals: Totals) -> list[str]:
    """Returns remarks on the cost of a key, model or route: its uncertain dollars, and how many calls lack a price.

    Dollars are uncertain if they are estimated or use an assumed price.
    """
    parts = formatting.uncertain_parts(totals.cost, totals.estimated_cost, totals.provisional_cost)
    if unpriced := totals.unpriced_calls:
        parts.append(f"{formatting.count(unpriced)} need{'s' if unpriced == 1 else ''} a price")
    return parts


# The state of the server's parts


def _statuses(status: ServerStatus) -> list[PartStatus]:
    return [
        _upstream_status(status),
        _database_status(status),
        _redis_status(status.redis_away_seconds),
        _ledger_status(status),
        _journal_status(status),
    ]


def _price_status(reading: DashboardNumbers) -> list[PartStatus]:
    """Returns, as a list, an alert for the dashboard if some of its calls lack a price; otherwise an empty list.

    The alert names those models without a price that have the most calls.
    """
    if not reading.totals.unpriced_calls:
        return []
    named = [name or "no model" for name, totals in reading.by_value[Dimension.MODEL].items() if totals.unpriced_calls]
    more = f" and {len(named) - MAX_ALERT_MODELS} more" if len(named) > MAX_ALERT_MODELS else ""
    models = ", ".join(escape_invisible(name, 60) for name in named[:MAX_ALERT_MODELS])
    return [PartStatus("Prices", f"missing for {models}{more}", "bad", page="pages:needed_prices")]


def _upstream_status(status: ServerStatus) -> PartStatus:
    if status.upstream == "unknown":
        return PartStatus("Upstream", "no call yet", "")
    works = status.upstream == "ok"
    moment = status.upstream_answered_at if works else status.upstream_failed_at
    ago = formatting.duration(max(0.0, time.time() - (moment or 0)) * 1000)
    if works:
        return PartStatus("Upstream", f"answered {ago} ago", "good")
    return PartStatus("Upstream", f"not reached {ago} ago", "bad")


def _database_status(status: ServerStatus) -> PartStatus:
    if fault := status.shipping.database_fault:
        return PartStatus("Database", f"away ({fault}); calls go on", "bad")
    return PartStatus("Database", "up", "good")


def _redis_status(away_seconds: float | None) -> PartStatus:
    if away_seconds is None:
        return PartStatus("Redis", "not configured", "")
    if away_seconds:
        ago = formatting.duration(away_seconds * 1000)
        return PartStatus("Redis", f"away for {ago}; each worker counts alone", "bad")
    return PartStatus("Redis", "up", "good")


def _ledger_status(status: ServerStatus) -> PartStatus:
    shipping = status.shipping
    tone = "bad" if shipping.shipper_fault or shipping.lag_seconds > MAX_HEALTHY_LAG_SECONDS else "good"
    if shipping.shipper_fault == NOT_RUNNING:
        return PartStatus("Ledger", "the shipper does not run", tone)
    if shipping.shipper_fault:
        return PartStatus("Ledger", f"stuck ({shipping.shipper_fault})", tone)
    if not shipping.waiting_bytes:
        return PartStatus("Ledger", "up to date", tone)
    return PartStatus("Ledger", f"{formatting.duration(shipping.lag_seconds * 1000)} behind", tone)


def _journal_status(status: ServerStatus) -> PartStatus:
    if status.journal_full:
        return PartStatus("Journal", "full: new calls are refused", "bad")
    return PartStatus("Journal", f"{formatting.size(status.shipping.waiting_bytes)} waiting", "good")
