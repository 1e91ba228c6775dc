"""Writes the tables of sums: of hours; totals for the dashboard; failures for the errors page; key's days for budgets.

Sums are only ever added to, in the transaction that inserts the rows. A row that is removed from the sums is added with
a negative sign.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import orjson
from django.db.backends.utils import CursorWrapper

from usage.call_record import COUNTS, CountName, SummedRow
from usage.models import CostKind, Outcome, Span
from usage.sums.histogram import bucket
from usage.sums.summed_names import summed_code, summed_model

SumName = Literal[CountName, "request_bytes", "response_bytes", "cost", "duration_ms"]
MaxName = Literal["duration_ms", "input_tokens", "cached_tokens", "output_tokens"]
HistogramName = Literal["duration_ms", "upstream_ms", "overhead_ms"]

SUMS: tuple[SumName, ...] = (*COUNTS, "request_bytes", "response_bytes", "cost", "duration_ms")
TOKEN_MAXES: tuple[MaxName, ...] = ("input_tokens", "cached_tokens", "output_tokens")
MAXES: tuple[MaxName, ...] = ("duration_ms", *TOKEN_MAXES)
# The parts of `cost` that are not exact, and the kind of the dollars in each.
COST_PARTS = {"estimated_cost": CostKind.ESTIMATED, "provisional_cost": CostKind.PROVISIONAL}
PART_OF_KIND = {kind.value: name for name, kind in COST_PARTS.items()}
HOUR_SUMS = (*SUMS, *COST_PARTS)
DAY_SUMS = ("input_tokens", "output_tokens", "cost", *COST_PARTS)
# The sums to which a request of the gateway's own for a background response adds. It is no call, and nobody waited.
POLL_SUMS: tuple[SumName, ...] = (*COUNTS, "cost")
TOTAL_SUMS = ("input_tokens", "cached_tokens", "output_tokens", "cost", *COST_PARTS, "duration_ms")
HISTOGRAMS: tuple[HistogramName, ...] = ("duration_ms", "upstream_ms", "overhead_ms")


@dataclass
class Sums:
    """The sums of one group of calls: the number of calls and errors, tokens, dollars, times, maxima and histograms.

    `histograms` maps a column's name to the number of calls by bucket. Maxima do not fall when a row is subtracted.
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

    def merge(self, other: Sums, *, histograms: bool = True) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.unpriced += other.unpriced
        for name, total in other.totals.items():
            self.totals[name] += total
        for name, most in other.maxima.items():
            self.maxima[name] = max(self.maxima[name], most)
        for name, counts in other.histograms.items() if histograms else ():
            mine = self.histograms[name]
            for number, count in counts.items():
                mine[number] += count


LATEST, EARLIEST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
NO_ID = UUID(int=0)
_Groups = defaultdict[tuple[object, ...], Sums]
MinuteGroup = tuple[datetime, str, str, str, str]  # start, key, model, route, outcome
FailureGroup = tuple[str, datetime, str, int, str, str, str, str]  # `FAILURE_KEYS`


@dataclass
class Failures:
    """The count of failed calls with the same kind of error, with the first and last time, and a sample call.

    When a new row of a call replaces an older one, the older one is subtracted. That lowers only the number: the times
    and the sample stay, since those of the other calls are unknown here.
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


@dataclass
class Rollup:
    """The sums of one batch of calls' rows, to be added to the tables of sums.

    Groups are written in sorted order, so that two writers never deadlock.
    """

    minutes: dict[MinuteGroup, Sums] = field(default_factory=lambda: defaultdict(Sums))
    failures: dict[FailureGroup, Failures] = field(default_factory=lambda: defaultdict(Failures))

    def add(self, rows: Iterable[SummedRow], sign: int = 1) -> None:
        for row in rows:
            minute: datetime = row["started_at"].astimezone(UTC).replace(second=0, microsecond=0)
            model = summed_model(row)
            key, route, outcome = row["key_name"], row["route"], row["outcome"]
            self.minutes[minute, key, model, route, outcome].add(row, sign)
            if outcome != Outcome.SUCCESS and not row["by_gateway"]:
                hour = minute.replace(minute=0)
                for span, start in ((Span.HOUR, hour), (Span.DAY, hour.replace(hour=0))):
                    group = (span.value, start, outcome, row["status"] or 0, summed_code(row), model, route, key)
                    self.failures[group].add(row, sign)

    def write(self, cursor: CursorWrapper) -> None:
        """Adds the sums of this batch of rows to the tables of sums: of hours, of days, of totals and of failures."""
        self.write_hours(cursor)
        self.write_totals(cursor, set(Span))
        self.write_failures(cursor)

    def write_hours(self, cursor: CursorWrapper) -> None:
        """Adds the sums of this batch of rows to the tables of hours (`UsageHour`) and of keys' days (`UsageDay`)."""
        hours = _Groups(Sums)
        for (minute, *group), sums in self.minutes.items():
            hours[minute.replace(minute=0), *group].merge(sums)
        if hours:
            cursor.execute(ADD_HOURS, [_json(_hour_columns(hours))])
            self.add_to_days(cursor)

    def add_to_days(self, cursor: CursorWrapper) -> None:
        """Adds the sums of this batch of rows to the table of each key's days (`UsageDay`), and to no other table."""
        days = _Groups(Sums)
        for (minute, *group), sums in self.minutes.items():
            days[minute.date(), group[0]].merge(sums)
        cursor.execute(ADD_DAYS, [_json(_day_columns(days))])

    def write_totals(self, cursor: CursorWrapper, spans: Collection[Span]) -> None:
        totals = _Groups(Sums)
        for (minute, *group), sums in self.minutes.items():
            hour = minute.replace(minute=0)
            for span, start in ((Span.MINUTE, minute), (Span.HOUR, hour), (Span.DAY, hour.replace(hour=0))):
                if span not in spans:
                    continue
                totals[span.value, "all", start, ""].merge(sums)
                for dimension, value in zip(DIMENSIONS, group, strict=True):
                    has_histograms = (span, dimension) == (Span.DAY, "key")  # for the key's own page
                    totals[span.value, dimension, start, value].merge(sums, histograms=has_histograms)
        if totals:
            cursor.execute(ADD_TOTALS, [_json(_total_columns(totals))])

    def write_failures(self, cursor: CursorWrapper) -> None:
        if self.failures:
            cursor.execute(ADD_FAILURES, [_json(_failure_columns(self.failures))])


def _hour_columns(hours: _Groups) -> list[dict[str, object]]:
    return [
        {
            **dict(zip(HOUR_KEYS, key, strict=True)),
            **_columns(sums, HOUR_SUMS),
            **{f"max_{name}": sums.maxima[name] for name in MAXES},
            **_histogram_columns(sums),
        }
        for key, sums in sorted(hours.items())
    ]


def _day_columns(days: _Groups) -> list[dict[str, object]]:
    return [{**dict(zip(DAY_KEYS, key, strict=True)), **_columns(sums, DAY_SUMS)} for key, sums in sorted(days.items())]


def _total_columns(totals: _Groups) -> list[dict[str, object]]:
    return [
        {
            **dict(zip(TOTAL_KEYS, key, strict=True)),
            "errors": sums.errors,
            **_columns(sums, TOTAL_SUMS),
            **_histogram_columns(sums),
        }
        for key, sums in sorted(totals.items())
    ]


def _failure_columns(failures: Mapping[FailureGroup, Failures]) -> list[dict[str, object]]:
    return [{**dict(zip(FAILURE_KEYS, key, strict=True)), **vars(group)} for key, group in sorted(failures.items())]


# The columns of a call's row that are added up, and those by which they are grouped.
ROW_COLUMNS = (
    "request_id", "started_at", "key_name", "request_model", "response_model", "route", "outcome", "status",
    "error_code", "by_gateway", "unknown_model", "other_code",
    *dict.fromkeys((*SUMS, *MAXES, *HISTOGRAMS)), "cost_kind",
)  # fmt: skip
SUMMED_NAMES = (*ROW_COLUMNS, "needs_price")
NEEDS_PRICE_SQL = "usage_request.cost IS NULL AND usage_request.price IS NULL"
SUMMED_SQL = ", ".join([*(f"usage_request.{name}" for name in ROW_COLUMNS), NEEDS_PRICE_SQL])
HOUR_KEYS = ("hour", "key_name", "model", "route", "outcome")
DAY_KEYS = ("day", "key_name")
TOTAL_KEYS = ("span", "dimension", "start", "value")
FAILURE_KEYS = ("span", "start", "outcome", "status", "error_code", "model", "route", "key_name")
DIMENSIONS = ("key", "model", "route", "outcome")  # in the order of HOUR_KEYS


def _columns(sums: Sums, names: Iterable[str]) -> dict[str, object]:
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
    minima: Iterable[str] = (),
) -> str:
    """Returns the SQL statement that adds the sums of groups of calls to the table of sums named `table`.

    Its parameter is a JSON array with one object for each group, by column. `keys` are the columns that identify a
    group; a group that is not in the table yet is inserted. Counters and histograms are added up. Of `maxima` the
    larger value stays, of `minima` the smaller one.
    """
    columns = [*keys, *counters, *maxima, *histograms, *minima]
    sums = [f"{name} = {table}.{name} + EXCLUDED.{name}" for name in counters]
    sums += [f"{name} = greatest({table}.{name}, EXCLUDED.{name})" for name in maxima]
    sums += [f"{name} = least({table}.{name}, EXCLUDED.{name})" for name in minima]
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
    ("calls", "unpriced_calls", *HOUR_SUMS),
    [f"max_{name}" for name in MAXES],
    [f"{name}_histogram" for name in HISTOGRAMS],
)
ADD_DAYS = _adding("usage_usageday", DAY_KEYS, ("calls", "unpriced_calls", *DAY_SUMS))
ADD_TOTALS = _adding(
    "usage_usagetotal",
    TOTAL_KEYS,
    ("calls", "errors", "unpriced_calls", *TOTAL_SUMS),
    histograms=[f"{name}_histogram" for name in HISTOGRAMS],
)
ADD_FAILURES = _adding(
    "usage_errortotal", FAILURE_KEYS, ("calls",), maxima=("last_at", "sample_id"), minima=("first_at",)
)


def _json(groups: list[dict[str, object]]) -> str:
    return orjson.dumps(groups, default=_plain).decode()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError
