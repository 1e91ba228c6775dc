"""Owns what the dashboard shows of a time: tiles, charts, who and what was used most. It reads only totals,
but for the newest errors, so it costs as much at five million calls as at five."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usage.live.status import ServerStatus
from usage.models import Dimension, Outcome, Request, UsageTotal
from usage.page_data import formatting
from usage.page_data.newest_calls import read_newest_calls, read_newest_failures_of_key
from usage.sums.dashboard_data import Reading, read_all, read_key
from usage.sums.ranges import TimeRange
from usage.sums.totals import Totals

MAX_TABLE_ROWS = 8  # of a table
MAX_CHART_SERIES = 5  # of a chart; the rest are put together
MAX_NEWEST_ERRORS = 8
MAX_HEALTHY_LAG_SECONDS = 15.0
TotalsByBin = Sequence[Totals | None]


@dataclass(frozen=True)
class Figure:
    """One number of a tile. `tone` says whether its change is good news: good, bad, or nothing."""

    label: str
    text: str
    change: str = ""
    tone: str = ""
    before: str = ""


@dataclass(frozen=True)
class Tile:
    name: str
    main: Figure
    parts: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class UsageRow:
    """One key, model or route of a table."""

    name: str
    calls: int
    share: int  # of all calls, in percent
    errors: str
    tokens: int
    cost: str
    average: str


@dataclass(frozen=True)
class PartStatus:
    """Whether a part of the server is well."""

    label: str
    text: str
    tone: str  # good, bad, or nothing


@dataclass(frozen=True)
class Dashboard:
    time_range: TimeRange
    tiles: list[Tile]
    charts: dict[str, Any]
    used: dict[str, list[UsageRow]]
    errors: list[Request]
    statuses: list[PartStatus]
    is_empty: bool  # no call has ever been made


def read_dashboard(time_range: TimeRange, live: ServerStatus, now: datetime) -> Dashboard:
    reading = read_all(time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=_tiles(reading, live, time_range),
        charts=_charts(reading, with_overhead=True),
        used=_usage_tables(reading),
        errors=read_newest_calls(MAX_NEWEST_ERRORS, failed_only=True),
        statuses=_statuses(live),
        is_empty=not reading.totals.calls and not UsageTotal.objects.exists(),
    )


def read_key_dashboard(key: str, time_range: TimeRange, now: datetime) -> Dashboard:
    """The same of one key, without what is no key's own: the server's state, and our share of the latency."""
    reading = read_key(key, time_range, now)
    return Dashboard(
        time_range=time_range,
        tiles=_tiles(reading, None, time_range),
        charts=_charts(reading),
        used=_usage_tables(reading),
        errors=read_newest_failures_of_key(key, time_range)[:MAX_NEWEST_ERRORS],
        statuses=[],
        is_empty=False,
    )


# Tiles


def _tiles(reading: Reading, live: ServerStatus | None, time_range: TimeRange) -> list[Tile]:
    """Without `live`, of a key."""
    now, before = reading.totals, reading.before
    minutes = time_range.length.total_seconds() / 60
    per_call = now.cost / now.calls if now.calls else None, before.cost / before.calls if before.calls else None
    latency = {
        (name, share): (now.percentile(name, share), before.percentile(name, share))
        for name in ("duration_ms", "upstream_ms", "overhead_ms")
        for share in (0.5, 0.95, 0.99)
    }
    slower = {
        key: _figure(f"p{key[1] * 100:.0f}", *values, formatting.duration, bad="up") for key, values in latency.items()
    }
    upstream = _figure("upstream p95", *latency["upstream_ms", 0.95], formatting.duration, bad="up")
    tiles = [
        Tile(
            "calls",
            _figure("Calls", now.calls, before.calls, formatting.count),
            (_calls_per_minute(now.calls, minutes),),
        ),
        Tile(
            "errors",
            _figure(
                "Error rate", _ratio(now.errors, now.calls), _ratio(before.errors, before.calls),
                lambda rate: formatting.share(rate, 1), bad="up",
            ),
            (_figure("failed", now.errors, before.errors, formatting.count, quiet=True),),
        ),
        Tile(
            "dollars",
            _figure("Cost", now.cost, before.cost, formatting.dollars),
            (
                _figure("a call", *per_call, formatting.dollars, quiet=True),
                *([Figure("without a price", formatting.count(now.unpriced_calls))] if now.unpriced_calls else []),
            ),
        ),
        *([_in_flight(live)] if live else []),
        Tile(
            "input_tokens",
            _figure("Tokens in", now.input_tokens, before.input_tokens, formatting.count),
            (
                _figure("cached", now.cached_tokens, before.cached_tokens, formatting.count),
                Figure("of them", formatting.share(now.cached_tokens, now.input_tokens)),
            ),
        ),
        Tile(
            "output_tokens",
            _figure("Tokens out", now.output_tokens, before.output_tokens, formatting.count),
            (_figure("a call", _ratio(now.output_tokens, now.calls), None, formatting.count),),
        ),
        Tile(
            "latency",
            _figure("Latency, median", *latency["duration_ms", 0.5], formatting.duration, bad="up"),
            (slower["duration_ms", 0.95], slower["duration_ms", 0.99], *([upstream] if live else [])),
        ),
    ]  # fmt: skip
    if live:
        overhead = _figure("Our own overhead, median", *latency["overhead_ms", 0.5], formatting.duration, bad="up")
        tiles.append(Tile("overhead", overhead, (slower["overhead_ms", 0.95], slower["overhead_ms", 0.99])))
    return tiles


def _calls_per_minute(calls: int, minutes: float) -> Figure:
    a_minute = calls / minutes
    return Figure("a minute", f"{a_minute:,.1f}") if a_minute >= 0.1 else Figure("a day", f"{a_minute * 1440:,.1f}")


def _in_flight(live: ServerStatus) -> Tile:
    draining = [Figure("draining", str(live.draining))] if live.draining else []
    workers = Figure("worker" if live.workers == 1 else "workers", formatting.count(live.workers))
    return Tile("in_flight", Figure("In flight now", formatting.count(live.in_flight)), (workers, *draining))


def _figure(
    label: str,
    value: float | Decimal | None,
    before: float | Decimal | None,
    show: Callable[[Any], str],
    *,
    bad: str = "",
    quiet: bool = False,
) -> Figure:
    """`bad`: the direction of change that is bad news. `quiet`: the change is not shown."""
    text = show(value) if value is not None else formatting.UNKNOWN
    change = "" if quiet or value is None or before is None else formatting.change(float(value), float(before))
    tone = ""
    if bad and change and not change.startswith("±"):
        grows = float(value or 0) > float(before or 0)
        tone = "bad" if grows == (bad == "up") else "good"
    return Figure(label, text, change, tone, show(before) if before is not None and change else "")


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


# Charts


def _charts(reading: Reading, *, with_overhead: bool = False) -> dict[str, Any]:
    series = reading.series
    everything = series.everything
    outcomes = [(label, series.by_value[Dimension.OUTCOME].get(value)) for value, label in Outcome.choices]
    overhead = {"name": "Our own, p95", "values": _percentiles(everything, "overhead_ms", 0.95)}
    return {
        "times": [moment.isoformat() for moment in series.bins],
        "step": reading.step.total_seconds(),
        "calls": [{"name": label.capitalize(), "values": line} for label, line in outcomes if line is not None],
        "dollars": _by_model(series.by_value[Dimension.MODEL]),
        "tokens": [
            {
                "name": "In, not cached",
                "values": _values(everything, lambda totals: totals.input_tokens - totals.cached_tokens),
            },
            {"name": "In, cached", "values": _values(everything, lambda totals: totals.cached_tokens)},
            {"name": "Out", "values": _values(everything, lambda totals: totals.output_tokens)},
        ],
        "latency": [
            {"name": f"p{share * 100:.0f}", "values": _percentiles(everything, "duration_ms", share)}
            for share in (0.5, 0.95, 0.99)
        ]
        + ([overhead] if with_overhead else []),
    }


def _by_model(lines: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Those that cost the most, and the rest put together."""
    ranked = sorted((name for name, values in lines.items() if any(values)), key=lambda name: -sum(lines[name]))
    charted = [{"name": name or "no model", "values": _dollars(lines[name])} for name in ranked[:MAX_CHART_SERIES]]
    if rest := ranked[MAX_CHART_SERIES:]:
        sums = [sum(values) for values in zip(*(lines[name] for name in rest), strict=True)]
        charted.append({"name": f"{len(rest)} others", "values": _dollars(sums)})
    return charted


def _dollars(values: Sequence[Any]) -> list[float]:
    return [round(float(value), 8) for value in values]


def _values(line: TotalsByBin, read: Callable[[Totals], float]) -> list[float]:
    return [read(totals) if totals else 0 for totals in line]


def _percentiles(line: TotalsByBin, name: str, share: float) -> list[float | None]:
    return [totals.percentile(name, share) if totals else None for totals in line]


# Tables and states


def _usage_tables(reading: Reading) -> dict[str, list[UsageRow]]:
    return {dimension: _usage_rows(groups, reading.totals.calls) for dimension, groups in reading.by_value.items()}


def _usage_rows(groups: dict[str, Totals], calls: int) -> list[UsageRow]:
    return [
        UsageRow(
            name=name,
            calls=totals.calls,
            share=round(100 * totals.calls / calls) if calls else 0,
            errors=formatting.share(totals.errors, totals.calls),
            tokens=totals.input_tokens + totals.output_tokens,
            cost=formatting.dollars(totals.cost),
            average=formatting.duration(_ratio(totals.duration_ms, totals.calls)),
        )
        for name, totals in list(groups.items())[:MAX_TABLE_ROWS]
    ]


def _statuses(live: ServerStatus) -> list[PartStatus]:
    late = live.ledger_lag_seconds > MAX_HEALTHY_LAG_SECONDS
    lag = "up to date" if not live.journal_bytes else f"{formatting.duration(live.ledger_lag_seconds * 1000)} behind"
    database = PartStatus("Database", "up", "good")
    if live.database_fault:
        database = PartStatus("Database", f"away ({live.database_fault}); calls go on", "bad")
    journal = f"{formatting.size(live.journal_bytes)} waiting"
    return [
        PartStatus("Upstream", *_upstream_state(live)),
        database,
        PartStatus("Redis", *_redis_state(live.redis_away_seconds)),
        PartStatus(
            "Ledger",
            f"stuck ({live.shipper_fault})" if live.shipper_fault else lag,
            "bad" if late or live.shipper_fault else "good",
        ),
        PartStatus(
            "Journal",
            "full: new calls are refused" if live.journal_full else journal,
            "bad" if live.journal_full else "good",
        ),
    ]


def _redis_state(away_seconds: float | None) -> tuple[str, str]:
    if away_seconds is None:
        return "not configured", ""
    if away_seconds:
        return f"away for {formatting.duration(away_seconds * 1000)}; each worker counts alone", "bad"
    return "up", "good"


def _upstream_state(live: ServerStatus) -> tuple[str, str]:
    if live.upstream == "unknown":
        return "no call yet", ""
    answered = live.upstream_answered_at if live.upstream == "ok" else live.upstream_failed_at
    ago = formatting.duration(max(0.0, time.time() - (answered or 0)) * 1000)
    if live.upstream == "ok":
        return f"answered {ago} ago", "good"
    return f"not reached {ago} ago", "bad"
