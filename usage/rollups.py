"""Owns the sums that are kept beside the rows: per hour for the dashboard, per key and day for budgets.

Sums are only ever added to, in the transaction that inserted the rows; a row that is taken back
is added with its sign turned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from django.db.backends.utils import CursorWrapper

from usage.histogram import bucket
from usage.tokens import COUNTS

SUMS = (*COUNTS, "request_bytes", "response_bytes", "cost", "duration_ms")
MAXES = ("duration_ms", "input_tokens", "cached_tokens", "output_tokens")
DAY_SUMS = ("input_tokens", "output_tokens", "cost")
HISTOGRAMS = ("duration_ms", "upstream_ms", "overhead_ms")


@dataclass
class Sums:
    """What a group of rows adds up to. `histograms` maps a column to bucket → count. Maxima only ever grow."""

    calls: int = 0
    unpriced: int = 0
    totals: dict[str, Any] = field(default_factory=lambda: defaultdict(int))
    maxima: dict[str, Any] = field(default_factory=lambda: defaultdict(int))
    histograms: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def add(self, row: Mapping[str, Any], sign: int) -> None:
        self.calls += sign
        self.unpriced += sign * (row["cost"] is None)
        for name in SUMS:
            if row[name]:
                self.totals[name] += sign * row[name]
        for name in MAXES:
            self.maxima[name] = max(self.maxima[name], row[name] or 0)
        for name in HISTOGRAMS:
            if row[name] is not None:
                self.histograms[name][bucket(row[name])] += sign


@dataclass
class Rollup:
    """The sums of one batch, by hour and by day; groups in one order, so that two writers never deadlock."""

    hours: dict[tuple[Any, ...], Sums] = field(default_factory=lambda: defaultdict(Sums))
    days: dict[tuple[Any, ...], Sums] = field(default_factory=lambda: defaultdict(Sums))

    def add(self, rows: Iterable[Mapping[str, Any]], sign: int = 1) -> None:
        for row in rows:
            started: datetime = row["started_at"].astimezone(UTC)
            model = row["response_model"] or row["request_model"]
            hour = started.replace(minute=0, second=0, microsecond=0)
            self.hours[hour, row["key_name"], model, row["route"], row["outcome"]].add(row, sign)
            self.days[started.date(), row["key_name"]].add(row, sign)

    def write(self, cursor: CursorWrapper) -> None:
        """Adds the sums to the tables."""
        hours = [
            {
                **dict(zip(HOUR_KEYS, key, strict=True)),
                **_columns(sums, SUMS),
                **{f"max_{name}": sums.maxima[name] for name in MAXES},
                **_histogram_columns(sums),
            }
            for key, sums in sorted(self.hours.items())
        ]
        days = [
            {**dict(zip(DAY_KEYS, key, strict=True)), **_columns(sums, DAY_SUMS)}
            for key, sums in sorted(self.days.items())
        ]
        if hours:
            cursor.execute(ADD_HOURS, [_json(hours)])
            cursor.execute(ADD_DAYS, [_json(days)])


# What of a row is summed up, and by what.
ROW_COLUMNS = (
    "request_id", "started_at", "key_name", "request_model", "response_model", "route", "outcome",
    *dict.fromkeys((*SUMS, *MAXES, *HISTOGRAMS)),
)  # fmt: skip
HOUR_KEYS = ("hour", "key_name", "model", "route", "outcome")
DAY_KEYS = ("day", "key_name")


def _columns(sums: Sums, names: Iterable[str]) -> dict[str, Any]:
    return {"calls": sums.calls, "unpriced_calls": sums.unpriced, **{name: sums.totals[name] for name in names}}


def _histogram_columns(sums: Sums) -> dict[str, list[int]]:
    columns = {}
    for name in HISTOGRAMS:
        counts = sums.histograms[name]
        histogram = columns[f"{name}_histogram"] = [0] * (max(counts, default=-1) + 1)
        for number, count in counts.items():
            histogram[number] = count
    return columns


def _adding(
    table: str,
    keys: Iterable[str],
    counters: Iterable[str],
    maxima: Iterable[str] = (),
    histograms: Iterable[str] = (),
) -> str:
    """The statement that inserts groups from JSON, or adds them to those that are there."""
    columns = [*keys, *counters, *maxima, *histograms]
    sums = [f"{name} = {table}.{name} + EXCLUDED.{name}" for name in counters]
    sums += [f"{name} = greatest({table}.{name}, EXCLUDED.{name})" for name in maxima]
    sums += [
        f"{name} = ARRAY(SELECT COALESCE(a, 0) + COALESCE(b, 0) FROM unnest({table}.{name}, EXCLUDED.{name})"
        " WITH ORDINALITY AS pairs(a, b, number) ORDER BY number)"
        for name in histograms
    ]
    names = ", ".join(columns)
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb)"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(sums)}"
    )


ADD_HOURS = _adding(
    "usage_usagehour",
    HOUR_KEYS,
    ("calls", "unpriced_calls", *SUMS),
    [f"max_{name}" for name in MAXES],
    [f"{name}_histogram" for name in HISTOGRAMS],
)
ADD_DAYS = _adding("usage_usageday", DAY_KEYS, ("calls", "unpriced_calls", *DAY_SUMS))


def _json(groups: list[dict[str, Any]]) -> str:
    return orjson.dumps(groups, default=_plain).decode()


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError
