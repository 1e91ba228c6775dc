"""Writes the tables of sums: hours, totals and breakdowns (for pages and reports), failures, and days (for budgets).

Sums are only ever changed by adding, in the transaction that inserts the rows. To remove a row from the sums, it is
added with a negative sign.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TypeVar, cast

import orjson
from django.db.backends.utils import CursorWrapper

from usage.call_record import SummedRow
from usage.database.last_statements import LastStatements
from usage.models import Dimension, Outcome, Span
from usage.sums.group_sums import Failures, Sums, merged
from usage.sums.histogram import pack
from usage.sums.labels.label_rollup import LabelRollup
from usage.sums.labels.label_tables import ADD_LABELS
from usage.sums.sum_tables import (
    ADD_BREAKDOWNS,
    ADD_DAYS,
    ADD_FAILURES,
    ADD_HOURS,
    ADD_NAMES,
    ADD_PEAKS,
    ADD_TEAM_DAYS,
    ADD_TOTALS,
    BREAKDOWN_KEYS,
    BREAKDOWN_SUMS,
    DAY_KEYS,
    DAY_SUMS,
    DIMENSIONS,
    DURATION,
    DURATIONS,
    FAILURE_KEYS,
    HISTOGRAMS,
    HISTOGRAMS_OF,
    HOUR_KEYS,
    HOUR_SUMS,
    MAXES,
    NAMED,
    NO_HISTOGRAMS,
    PACKED,
    TAKE_TURN,
    TEAM_DAY_KEYS,
    TOTAL_KEYS,
    TOTAL_SUMS,
)
from usage.sums.summed_names import summed_code, summed_model

_Groups = defaultdict[tuple[object, ...], Sums]
MinuteGroup = tuple[datetime, str, str, str, str]  # start, key, model, route, outcome
TotalGroup = tuple[str, datetime, str]  # dimension, start, value
BreakdownGroup = tuple[str, datetime, str, str, str, str]  # dimension, start, value, model, route, outcome
_Group = TypeVar("_Group", bound=tuple[object, ...])  # one of them
Group = dict[str, object]  # a row of a table of sums, by column
Statement = tuple[str, list[str | list[str]]]  # SQL, and the values of its parameters
FailureGroup = tuple[str, datetime, str, int, str, str, str, str]  # `FAILURE_KEYS`


@dataclass
class Rollup:
    """The sums of one batch of calls' rows, collected in memory by `add`; `write` adds them to the tables of sums.

    Groups are written in sorted order. In another order, there could be a deadlock with a server of an earlier release,
    which does not wait for its turn (`TAKE_TURN`).
    """

    minutes: dict[MinuteGroup, Sums] = field(default_factory=lambda: defaultdict(Sums))
    failures: dict[FailureGroup, Failures] = field(default_factory=lambda: defaultdict(Failures))
    team_days: _Groups = field(default_factory=lambda: _Groups(Sums))  # by day and team
    labels: LabelRollup = field(default_factory=LabelRollup)

    def add(self, rows: Iterable[SummedRow], sign: int = 1) -> None:
        for row in rows:
            self.labels.add(row, sign)
            minute: datetime = row["started_at"].astimezone(UTC).replace(second=0, microsecond=0)
            model = summed_model(row)
            key, route, outcome = row["key_name"], row["route"], row["outcome"]
            self.minutes[minute, key, model, route, outcome].add(row, sign)
            if team := row["team"]:
                self.team_days[minute.date(), team].add(row, sign)
            if outcome != Outcome.SUCCESS and not row["by_gateway"]:
                for span in (Span.HOUR, Span.DAY, Span.MONTH):
                    start = _start(minute, span)
                    group = (span.value, start, outcome, row["status"] or 0, summed_code(row), model, route, key)
                    self.failures[group].add(row, sign)

    def write(self, cursor: CursorWrapper | LastStatements) -> None:
        """Adds the sums of this batch to all tables of sums; call it in the transaction that inserts the calls' rows.

        This includes the names of keys, models and routes, and the longest duration and highest token counts of each
        day (`UsagePeak`). All is computed before the first row is locked, because the shippers of other hosts wait from
        then on.
        """
        sums = [*self._hours(), *self._days(), *self._team_days(), *self._peaks(), *self._totals()]
        _execute(cursor, [*sums, *self._breakdowns(), *self._failures(), *self._labels()])

    def write_hours(self, cursor: CursorWrapper) -> None:
        """Adds this batch to only three tables of sums: those of hours, of keys by day, and of peaks (`UsagePeak`)."""
        _execute(cursor, [*self._hours(), *self._days(), *self._peaks()])

    def hour_groups(self) -> list[Group]:
        """Returns the sums of this batch by hour, key, model, route and outcome, as rows of the table `UsageHour`."""
        hours: dict[tuple[object, ...], list[Sums]] = defaultdict(list)
        for (minute, *group), sums in self.minutes.items():
            hours[minute.replace(minute=0), *group].append(sums)
        return _hour_columns({group: merged(parts) for group, parts in hours.items()})

    def total_groups(self, spans: Collection[Span]) -> list[Group]:
        """Returns the totals of this batch by `spans` (minutes, hours, days, months), as rows of `UsageTotal`."""
        finer: dict[TotalGroup, Sums] = defaultdict(Sums)
        for (minute, *group), sums in self.minutes.items():
            finer["all", minute, ""].merge(sums)
            for dimension, value in zip(DIMENSIONS, group, strict=True):
                finer[dimension, minute, value].merge(sums, histograms=HISTOGRAMS_OF[dimension])
        totals: dict[tuple[object, ...], Sums] = {}
        for span in Span:  # from minutes to months, each from the one before, which has fewer groups than rows
            if span != Span.MINUTE:
                finer = _coarser(finer, span)
            if span in spans:
                totals |= {(span.value, *group): sums for group, sums in finer.items()}
        return _total_columns(totals)

    def breakdown_groups(self, spans: Collection[Span]) -> list[Group]:
        """Returns the sums of this batch by day, and by month if `spans` has months, as rows of `UsageBreakdown`.

        There is a row for each model, route and outcome, of each key and of all keys together.
        """
        days: dict[BreakdownGroup, Sums] = defaultdict(Sums)
        for (minute, key, model, route, outcome), sums in self.minutes.items():
            days["key", _start(minute, Span.DAY), key, model, route, outcome].merge(sums, histograms=(DURATION,))
        for (_, start, _, model, route, outcome), sums in list(days.items()):
            days["all", start, "", model, route, outcome].merge(sums, histograms=())
        found: dict[tuple[object, ...], Sums] = {("day", *group): sums for group, sums in days.items()}
        if Span.MONTH in spans:
            found |= {("month", *group): sums for group, sums in _coarser(days, Span.MONTH).items()}
        return _breakdown_columns(found)

    def names(self) -> Statement:
        """Returns the SQL statement that adds this batch's names of keys, models and routes to the table `SummedName`.

        Names that the table has already are skipped.
        """
        found = {pair for _, *group in self.minutes for pair in zip(NAMED, group, strict=False)}
        dimensions = sorted((str(dimension.value), str(value)) for dimension, value in found)
        return ADD_NAMES, [[dimension for dimension, _ in dimensions], [value for _, value in dimensions]]

    def _hours(self) -> Iterator[Statement]:
        if groups := self.hour_groups():
            yield ADD_HOURS, [as_json(groups)]

    def _days(self) -> Iterator[Statement]:
        days = _Groups(Sums)
        for (minute, *group), sums in self.minutes.items():
            days[minute.date(), group[0]].merge(sums, histograms=())
        if days:
            yield ADD_DAYS, [as_json(_day_columns(DAY_KEYS, days))]

    def _team_days(self) -> Iterator[Statement]:
        if self.team_days:
            yield ADD_TEAM_DAYS, [as_json(_day_columns(TEAM_DAY_KEYS, self.team_days))]

    def _peaks(self) -> Iterator[Statement]:
        days: dict[date, dict[str, float]] = defaultdict(lambda: dict.fromkeys(MAXES, 0))
        for (minute, *_), sums in self.minutes.items():
            peaks = days[minute.date()]
            for name in MAXES:
                peaks[name] = max(peaks[name], sums.maxima[name])
        if days:
            yield ADD_PEAKS, [as_json(_peak_columns(days))]

    def _totals(self) -> Iterator[Statement]:
        if groups := self.total_groups(set(Span)):
            yield ADD_TOTALS, [as_json(groups)]
            yield self.names()

    def _breakdowns(self) -> Iterator[Statement]:
        if groups := self.breakdown_groups({Span.DAY, Span.MONTH}):
            yield ADD_BREAKDOWNS, [as_json(groups)]

    def _failures(self) -> Iterator[Statement]:
        if self.failures:
            yield ADD_FAILURES, [as_json(_failure_columns(self.failures))]

    def _labels(self) -> Iterator[Statement]:
        if groups := self.labels.as_json():
            yield ADD_LABELS, [groups]


def _execute(cursor: CursorWrapper | LastStatements, statements: Iterable[Statement]) -> None:
    """Executes SQL statements in one round trip, as soon as no other process adds to the sums (`TAKE_TURN`)."""
    if found := list(statements):
        sql = ";".join([TAKE_TURN, *(sql for sql, _ in found)])
        cursor.execute(sql, [value for _, values in found for value in values])


def _coarser(totals: Mapping[_Group, Sums], span: Span) -> dict[_Group, Sums]:
    """Adds up sums of short periods, such as minutes, to sums of the hours, days or months (`span`) in which they lie.

    The keys of both maps are tuples; their second item is the beginning of the period.
    """
    finer: dict[_Group, list[Sums]] = defaultdict(list)
    for group, sums in totals.items():
        start = _start(cast(datetime, group[1]), span)
        finer[cast(_Group, (group[0], start, *group[2:]))].append(sums)
    return {group: merged(parts) for group, parts in finer.items()}


def _start(moment: datetime, span: Span) -> datetime:
    """Returns the beginning of the hour, day or month (UTC) in which a minute lies."""
    # Faster than `usage.sums.totals_reader.floor`, for the shipper.
    if span == Span.HOUR:
        return moment.replace(minute=0)
    return moment.replace(minute=0, hour=0) if span == Span.DAY else moment.replace(minute=0, hour=0, day=1)


def _hour_columns(hours: Mapping[tuple[object, ...], Sums]) -> list[Group]:
    return [
        {
            **dict(zip(HOUR_KEYS, key, strict=True)),
            **_columns(sums, HOUR_SUMS),
            **{f"max_{name}": sums.maxima[name] for name in MAXES},
            **{column: pack(sums.histograms[name]) for name, column in PACKED.items()},
        }
        for key, sums in sorted(hours.items())
    ]


def _day_columns(keys: Iterable[str], days: _Groups) -> list[Group]:
    return [{**dict(zip(keys, key, strict=True)), **_columns(sums, DAY_SUMS)} for key, sums in sorted(days.items())]


def _peak_columns(days: Mapping[date, Mapping[str, float]]) -> list[Group]:
    return [
        {"day": day, **{f"max_{name}": peak for name, peak in peaks.items()}} for day, peaks in sorted(days.items())
    ]


def _total_columns(totals: Mapping[tuple[object, ...], Sums]) -> list[Group]:
    return [
        {
            **dict(zip(TOTAL_KEYS, key, strict=True)),
            "errors": sums.errors,
            **_columns(sums, TOTAL_SUMS),
            **(_histogram_columns(sums) if key[1] == Dimension.ALL else NO_HISTOGRAMS),
            DURATIONS: pack(sums.histograms[DURATION]) if key[1] in NAMED else [],
        }
        for key, sums in sorted(totals.items())
    ]


def _breakdown_columns(groups: Mapping[tuple[object, ...], Sums]) -> list[Group]:
    return [
        {
            **dict(zip(BREAKDOWN_KEYS, key, strict=True)),
            **_columns(sums, BREAKDOWN_SUMS),
            DURATIONS: pack(sums.histograms[DURATION]),
        }
        for key, sums in sorted(groups.items())
    ]


def _failure_columns(failures: Mapping[FailureGroup, Failures]) -> list[Group]:
    return [{**dict(zip(FAILURE_KEYS, key, strict=True)), **vars(group)} for key, group in sorted(failures.items())]


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


def as_json(groups: list[Group]) -> str:
    """Converts rows of a table of sums to JSON text, the parameter of the SQL statement `SumTable.add`.

    All rows must have the same columns. Histograms become texts such as `{1,2}`: PostgreSQL reads these faster than
    arrays of JSON.
    """
    histograms = [name for name, value in groups[0].items() if isinstance(value, list)] if groups else []
    texts = [{**group, **{name: _array_text(group[name]) for name in histograms}} for group in groups]
    return orjson.dumps(texts, default=str).decode()  # `str` is for dollars


def _array_text(numbers: object) -> str:
    return f"{{{orjson.dumps(numbers)[1:-1].decode()}}}"
