"""Rebuilds all sums: of hours and days from the rows, totals and the counts of failures from hours and rows.

This is needed after an update, if older code that did not have these tables or columns has written to the database, or
when `ledger verify` finds them wrong. Totals and breakdowns are computed again by day, and those of months from their
days. Writers wait for a day's, for a month's, and for the other sums; none of their calls is lost or counted twice.
Hours that agree with their rows stay as they are, and so do those whose rows may have been pruned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, time
from typing import cast

from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet
from django.db.models.functions import Trunc, TruncDate, TruncHour

from usage.call_record import SummedRow
from usage.database.clock import database_now
from usage.ids import first_id
from usage.models import (
    FAILED,
    NEEDS_PRICE,
    ErrorTotal,
    Outcome,
    Request,
    Span,
    TeamDay,
    UsageBreakdown,
    UsageDay,
    UsageHour,
    UsagePeak,
    UsageTotal,
)
from usage.sums.adding_up import Rollup
from usage.sums.group_sums import Sums
from usage.sums.histogram import added, unpack
from usage.sums.pruned import DAY, comparable_since, histograms_since, latest
from usage.sums.tables import (
    BREAKDOWN_SUMS,
    DAY_KEYS,
    DAY_SUMS,
    HISTOGRAMS,
    HOUR_KEYS,
    HOUR_SUMS,
    MAXES,
    OF_MONTHS,
    PACKED,
    SUMMED_NAMES,
    TEAM_DAY_KEYS,
    HistogramName,
)
from usage.sums.totals_reader import COUNTERS, MINUTES_KEPT, ceiling, next_month, starts_of
from usage.upkeep.differing_sums import (
    DAY_GROUPS,
    HAS_TEAM,
    HOUR_GROUPS,
    TEAM_DAY_GROUPS,
    differing_groups,
    differing_histograms,
    without_writers,
)
from usage.upkeep.label_sums.label_check import rebuild_labels

BATCH_SIZE = 5000
TOTALS_OF_HOURS = (Span.HOUR, Span.DAY)


def rebuild_totals(now: datetime | None = None) -> int:
    """Computes the tables of sums from the rows of calls again; returns how many hours had wrong sums.

    Sums of hours whose rows have been deleted stay as they are, and so do failure counts of such days.
    """
    now = now or database_now()
    with without_writers() as cursor:
        mended = _mend_hours(cursor)
        _mend_team_days(cursor)
    # Hours and days are replaced only where they are wrong; totals and counts of failures always.
    for day in _starts(Span.DAY):
        rebuild_day(day)
    with without_writers() as cursor:
        UsageTotal.objects.filter(span=Span.MINUTE).delete()
        minutes = Request.objects.filter(request_id__gte=first_id(now - MINUTES_KEPT))
        for rollup in _sums_of_rows(minutes):
            rollup.write_totals(cursor, {Span.MINUTE})
        failed, known = Request.objects.filter(FAILED), ErrorTotal.objects.all()
        if pruned_before := comparable_since():
            whole = ceiling(pruned_before, Span.DAY)  # before it, rows have been pruned, and the old counts stay
            failed, known = failed.filter(started_at__gte=whole), known.filter(start__gte=whole)
        known.delete()
        for rollup in _sums_of_rows(failed):
            rollup.write_failures(cursor)
    rebuild_months()
    rebuild_labels(now)
    return mended


def rebuild_months() -> None:
    """Computes the sums of all months again from those of days."""
    for month in _starts(Span.MONTH):
        rebuild_month(month)


def rebuild_month(month: datetime) -> None:
    """Computes the sums of the month (UTC) that begins at `month` again from those of its days."""
    with without_writers() as cursor:
        for table, add_day in OF_MONTHS.items():
            cursor.execute(f"DELETE FROM {table} WHERE span = 'month' AND start = %s", [month])
            for day in starts_of(Span.DAY, month, next_month(month)):
                cursor.execute(add_day, [day])


def rebuild_day(day: datetime) -> None:
    """Computes the totals and breakdowns of one day (UTC), and the totals of its hours, again from `UsageHour`.

    If the hours' histograms have been emptied because of their age, the day's sums keep those that they have. The day's
    highest figures (`UsagePeak`) become those of its hours.
    """
    with without_writers() as cursor:
        totals = UsageTotal.objects.filter(span__in=TOTALS_OF_HOURS, start__gte=day, start__lt=day + DAY)
        breakdowns = UsageBreakdown.objects.filter(span=Span.DAY, start=day)
        hours = UsageHour.objects.filter(hour__gte=day, hour__lt=day + DAY)
        emptied_before = histograms_since()
        has_histograms = emptied_before is None or day >= emptied_before
        if has_histograms:
            totals.delete()
            breakdowns.delete()
        else:
            totals.update(**dict.fromkeys(COUNTERS, 0))
            breakdowns.update(**dict.fromkeys(("calls", "unpriced_calls", *BREAKDOWN_SUMS), 0))
        rollup = _sums_of_hours(hours, histograms=HISTOGRAMS if has_histograms else ())
        rollup.write_totals(cursor, TOTALS_OF_HOURS)
        rollup.write_breakdowns(cursor)
        UsagePeak.objects.filter(day=day.date()).delete()
        rollup.raise_peaks(cursor)


def _starts(span: Span) -> list[datetime]:
    """Returns the beginnings of the days or months (UTC) that have sums, in order."""
    hours = UsageHour.objects.annotate(first=Trunc("hour", span, tzinfo=UTC))
    totals = UsageTotal.objects.exclude(span=Span.MINUTE).annotate(first=Trunc("start", span, tzinfo=UTC))
    return sorted({first for sums in (hours, totals) for first in sums.values_list("first", flat=True).distinct()})


def _mend_hours(cursor: CursorWrapper) -> int:
    """Corrects wrong sums of hours (`UsageHour`) and of keys' days (`UsageDay`); returns how many hours were wrong."""
    since = comparable_since()
    hour, day = (f"COALESCE(a.{key}, b.{key})" for key in ("hour", "day"))
    wrong = differing_groups("usage_usagehour", HOUR_KEYS, HOUR_GROUPS, HOUR_SUMS, since, hour, None)
    for name in HISTOGRAMS:
        wrong += differing_histograms(name, latest(since, histograms_since()), "hour", None)
    hours = {hour for (hour,) in wrong}
    wrong_days = differing_groups("usage_usageday", DAY_KEYS, DAY_GROUPS, DAY_SUMS, since, day, None)
    days = {hour.date() for hour in hours} | {day for (day,) in wrong_days}
    # Hours are computed from the rows of calls, and days from the hours.
    UsageHour.objects.filter(hour__in=hours).delete()
    calls = Request.objects.annotate(hour=TruncHour("started_at", tzinfo=UTC)).filter(hour__in=hours)
    for rollup in _sums_of_rows(calls) if hours else ():
        rollup.write_hours(cursor)
    UsageDay.objects.filter(day__in=days).delete()
    for day in days:
        start = datetime.combine(day, time(), UTC)
        _sums_of_hours(UsageHour.objects.filter(hour__gte=start, hour__lt=start + DAY)).add_to_days(cursor)
    return len(hours)


def _mend_team_days(cursor: CursorWrapper) -> None:
    """Corrects wrong sums of teams' days (`TeamDay`), from the rows of calls."""
    day = "COALESCE(a.day, b.day)"
    wrong = differing_groups(
        "usage_teamday", TEAM_DAY_KEYS, TEAM_DAY_GROUPS, DAY_SUMS, comparable_since(), day, None, HAS_TEAM
    )
    days = {day for (day,) in wrong}
    TeamDay.objects.filter(day__in=days).delete()
    calls = Request.objects.exclude(team="").annotate(day=TruncDate("started_at", tzinfo=UTC)).filter(day__in=days)
    for rollup in _sums_of_rows(calls) if days else ():
        rollup.write_team_days(cursor)


def _sums_of_hours(hours: Iterable[UsageHour], histograms: Collection[HistogramName] = ()) -> Rollup:
    """Adds up rows of the table `UsageHour`, with these histograms only; returns a `Rollup`."""
    rollup = Rollup()
    for hour in hours:
        errors = hour.calls * (hour.outcome != Outcome.SUCCESS)
        sums = Sums(calls=hour.calls, errors=errors, unpriced=hour.unpriced_calls)
        sums.totals.update({name: getattr(hour, name) for name in HOUR_SUMS})
        sums.maxima.update({name: getattr(hour, f"max_{name}") for name in MAXES})
        for name in histograms:
            before, packed = getattr(hour, f"{name}_histogram"), getattr(hour, PACKED[name])
            sums.histograms[name].update(enumerate(added(before, unpack(packed))))
        rollup.minutes[tuple(getattr(hour, name) for name in HOUR_KEYS)].merge(sums)
    return rollup


def summed_rows(calls: QuerySet[Request]) -> Iterable[SummedRow]:
    """Reads the columns that sums are computed from, for the given calls."""
    return cast(Iterable[SummedRow], calls.annotate(needs_price=NEEDS_PRICE).values(*SUMMED_NAMES))


def _sums_of_rows(calls: QuerySet[Request]) -> Iterable[Rollup]:
    """Adds up the rows of the given calls; yields a `Rollup` for every `BATCH_SIZE` rows, to save memory."""
    calls = calls.order_by("request_id")
    batch = list(summed_rows(calls[:BATCH_SIZE]))
    while batch:
        last = batch[-1]["request_id"]
        rollup = Rollup()
        rollup.add(batch)
        yield rollup
        batch = list(summed_rows(calls.filter(request_id__gt=last)[:BATCH_SIZE]))
