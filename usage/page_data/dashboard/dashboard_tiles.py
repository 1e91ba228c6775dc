"""The top of a dashboard: the state of the server's parts, and the tiles.

A tile has one number, its change from the previous range of time, and smaller numbers about the same subject.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from usage.live.shipping_state import NOT_RUNNING
from usage.live.status import ServerStatus
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_reader import DashboardNumbers
from usage.sums import histogram
from usage.sums.totals_reader import Totals
from usage.untrusted_text import escape_invisible

MINUTES_OF_DAY = 1440
MIN_CALLS_PER_MINUTE = 0.1  # if there are fewer, the tile shows calls per day
MAX_HEALTHY_LAG_SECONDS = 15.0  # from a call's end to its row in the table; usually it takes less than a second
MAX_NAMED_MODELS = 3
Number = TypeVar("Number", float, Decimal)


@dataclass(frozen=True)
class Figure:
    """One number in a tile of the dashboard, formatted, with its change from the previous range of time.

    The change is that of `DashboardNumbers.comparison`: from the number `before` to the number `compared`. `tone` says
    whether it is good news: `good`, `bad`, or empty for neither.
    """

    label: str
    text: str
    change: str = ""  # from the previous range of time, as text; empty if there is nothing to compare
    tone: str = ""
    before: str = ""  # the number for the compared span of the previous range, as text
    compared: str = ""  # the number for the compared span of the shown range; empty if it reads like `text`
    page: str = ""  # the name of the admin's page with details, to which the dashboard of all calls links
    anchor: str = ""  # the id of the part of the same page with details; the admin's dashboards link to it


@dataclass(frozen=True)
class Tile:
    """One tile at the top of a dashboard: a main number with a remark, and smaller numbers below.

    The page's script finds the tile by its `name`.
    """

    name: str
    main: Figure
    parts: tuple[Figure, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class PartStatus:
    """The state of one part of the server, such as the database or the journal, as the dashboard shows it."""

    label: str
    text: str
    tone: str  # `good`, `bad`, or empty for neither


def make_tiles(reading: DashboardNumbers, status: ServerStatus | None) -> list[Tile]:
    """Returns the tiles at the top of a dashboard, in the order in which they are shown.

    `status` is the state of the server. It is None for the dashboard of one key, which has no tiles about the server.
    """
    now = reading.totals
    minutes = reading.time_range.counted.total_seconds() / 60
    calls = _compared_figure("Calls", reading, lambda totals: totals.calls, formatting.count)
    return [
        Tile("calls", calls, (_pace(now.calls, minutes),)),
        _error_tile(reading),
        _cost_tile(reading),
        *([_in_flight_tile(status)] if status else []),
        _input_tile(reading),
        _output_tile(reading),
        _latency_tile(reading, with_upstream=status is not None),
        *([_overhead_tile(reading)] if status else []),
    ]


def _pace(calls: int, minutes: float) -> Figure:
    """Makes the `Figure` with the average number of calls a minute: `calls` divided by `minutes`.

    Below `MIN_CALLS_PER_MINUTE`, the figure is the average number of calls a day.
    """
    per_minute = calls / minutes
    if per_minute >= MIN_CALLS_PER_MINUTE:
        return Figure("a minute", f"{per_minute:,.1f}")
    return Figure("a day", f"{per_minute * MINUTES_OF_DAY:,.1f}")


def _error_tile(reading: DashboardNumbers) -> Tile:
    errors = reading.totals.errors
    rate = _compared_figure(
        "Error rate",
        reading,
        lambda totals: ratio(totals.errors, totals.calls),
        lambda value: formatting.share(value, 1),
        bad="up",
        change=formatting.change_of_share,
    )
    failed = Figure("failed", formatting.count(errors), anchor="newest-errors" if errors else "")
    return Tile("errors", rate, (failed,))


def _cost_tile(reading: DashboardNumbers) -> Tile:
    now = reading.totals
    parts = [Figure("a call", formatting.dollars(now.cost / now.calls if now.calls else None))]
    if now.unpriced_calls:
        label = "call needs a price" if now.unpriced_calls == 1 else "calls need a price"
        parts.append(Figure(label, formatting.count(now.unpriced_calls), page="pages:needed_prices"))
    cost = _compared_figure("Cost", reading, lambda totals: totals.cost, formatting.dollars)
    return Tile("dollars", cost, tuple(parts), formatting.uncertain(now.cost, now.estimated_cost, now.provisional_cost))


def _in_flight_tile(status: ServerStatus) -> Tile:
    parts = [Figure("worker" if status.workers == 1 else "workers", formatting.count(status.workers))]
    if status.draining:
        parts.append(Figure("draining", str(status.draining)))
    return Tile("in_flight", Figure("In flight now", formatting.count(status.in_flight)), tuple(parts))


def _input_tile(reading: DashboardNumbers) -> Tile:
    cached = Figure("cached", formatting.share(reading.totals.cached_tokens, reading.totals.input_tokens))
    main = _compared_figure("Input tokens", reading, lambda totals: totals.input_tokens, formatting.count)
    return Tile("input_tokens", main, (cached,))


def _output_tile(reading: DashboardNumbers) -> Tile:
    of_a_call = Figure("a call", formatting.count(ratio(reading.totals.output_tokens, reading.totals.calls)))
    main = _compared_figure("Output tokens", reading, lambda totals: totals.output_tokens, formatting.count)
    return Tile("output_tokens", main, (of_a_call,))


def _latency_tile(reading: DashboardNumbers, *, with_upstream: bool) -> Tile:
    parts = [_latency("p95", reading, "duration_ms", 0.95), _latency("p99", reading, "duration_ms", 0.99)]
    if with_upstream:
        parts.append(_latency("upstream p95", reading, "upstream_ms", 0.95))
    return Tile("latency", _latency("Latency, median", reading, "duration_ms", 0.5), tuple(parts))


def _overhead_tile(reading: DashboardNumbers) -> Tile:
    parts = (_latency("p95", reading, "overhead_ms", 0.95), _latency("p99", reading, "overhead_ms", 0.99))
    return Tile("overhead", _latency("Gateway overhead, median", reading, "overhead_ms", 0.5), parts)


def _latency(label: str, reading: DashboardNumbers, column: str, share: float) -> Figure:
    """Makes the `Figure` of a percentile of a latency, with its change from the previous range of time.

    `column` names the latency, such as `duration_ms`, and `share` is the percentile from 0 to 1. A change to a
    neighbouring bucket of the histogram is not shown, since it may be within the error.
    """

    def change(value: float, before: float) -> str:
        return "" if histogram.is_same(value, before) else formatting.change(value, before)

    return _compared_figure(
        label, reading, lambda totals: totals.percentile(column, share), formatting.duration, bad="up", change=change
    )


def _compared_figure(
    label: str,
    reading: DashboardNumbers,
    read: Callable[[Totals], Number | None],
    show: Callable[[Number], str],
    *,
    bad: str = "",
    change: Callable[[float, float], str] = formatting.change,
) -> Figure:
    """Makes a `Figure`: a number in a tile of the dashboard, with its change from the previous range of time.

    * `read`: the function that returns the number for the sums of some calls; None if it is not known. An unknown
      number of the shown range is shown as a dash. No change is shown if one of the compared numbers is unknown.
    * `show`: the function that formats a number.
    * `bad`: the direction of change that is bad news, `up` or `down`; empty if neither is.
    * `change`: the function that formats the change, from the present and the previous number; an empty text means
      that there is nothing to compare.
    """
    value, compared, before = (read(totals) for totals in (reading.totals, reading.compared, reading.before))
    text = formatting.UNKNOWN if value is None else show(value)
    if compared is None or before is None or not (said := change(float(compared), float(before))):
        return Figure(label, text)
    tone = ""
    if bad and not said.startswith("±"):
        tone = "bad" if (compared > before) == (bad == "up") else "good"
    now = show(compared)
    return Figure(label, text, said, tone, show(before), "" if now == text else now)


def ratio(part: float, whole: float) -> float | None:
    """Returns `part / whole`; None if `whole` is 0."""
    return part / whole if whole else None


def unpriced_models(totals_by_model: Mapping[str, Totals]) -> str:
    """Returns the names of the models with calls that lack a price, such as "a, b and 2 more"; "" if there are none.

    `totals_by_model` maps names of models to the sums of their calls, those with the most calls first.
    """
    named = [name or "no model" for name, totals in totals_by_model.items() if totals.unpriced_calls]
    more = f" and {len(named) - MAX_NAMED_MODELS} more" if len(named) > MAX_NAMED_MODELS else ""
    return ", ".join(escape_invisible(name, 60) for name in named[:MAX_NAMED_MODELS]) + more


# The state of the server's parts


def make_statuses(status: ServerStatus) -> list[PartStatus]:
    """Returns the states of the server's parts, in the order in which the dashboard shows them.

    They are upstream, database, Redis, ledger and journal.
    """
    return [
        _upstream_status(status),
        _database_status(status),
        _redis_status(status.redis_away_seconds),
        _ledger_status(status),
        _journal_status(status),
    ]


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
