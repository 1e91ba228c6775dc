"""Rebuilds all sums: of hours and days from the rows, totals and the counts of failures from hours and rows.

This is needed after an update, if older code that did not have these tables or columns has written to the database, or
when `ledger verify` finds them wrong. Meanwhile, writers wait; none of their calls is lost or counted twice. Hours that
agree with their rows stay as they are, and so do those whose rows may have been pruned.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time
from typing import cast

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet
from django.db.models.functions import TruncDay, TruncHour

from usage.call_record import SummedRow
from usage.database.clock import database_now
from usage.ids import first_id
from usage.models import FAILED, NEEDS_PRICE, ErrorTotal, Outcome, Request, Span, UsageDay, UsageHour, UsageTotal
from usage.sums.adding_up import DAY_KEYS, DAY_SUMS, HISTOGRAMS, HOUR_KEYS, HOUR_SUMS, SUMMED_NAMES, Rollup, Sums
from usage.sums.pruned import DAY, comparable_since
from usage.sums.totals_reader import MINUTES_KEPT, ceiling
from usage.upkeep.differing_sums import DAY_GROUPS, HOUR_GROUPS, differing_groups, differing_histograms

BATCH_SIZE = 5000


def rebuild_totals(now: datetime | None = None) -> int:
    """Computes the tables of sums from the rows of calls again; returns how many hours had wrong sums.

    Failure counts of days whose rows have been deleted stay as they are.
    """
    now = now or database_now()
    with transaction.atomic(), connection.cursor() as cursor:
        # Writers add to the table of hours in the transaction that inserts rows. They wait for this lock, so all rows
        # that are read here have been added to the hours.
        cursor.execute("LOCK TABLE usage_usagehour IN SHARE ROW EXCLUSIVE MODE")
        mended = _mend_hours(cursor)
        # Hours and days are replaced only where they are wrong; totals and counts of failures always.
        UsageTotal.objects.all().delete()
        days = UsageHour.objects.annotate(day=TruncDay("hour", tzinfo=UTC)).order_by("day")
        for day in days.values_list("day", flat=True).distinct():
            _sums_of_hours(days.filter(day=day)).write_totals(cursor, {Span.HOUR, Span.DAY})
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
    return mended


def _mend_hours(cursor: CursorWrapper) -> int:
    """Corrects wrong sums of hours (`UsageHour`) and of keys' days (`UsageDay`); returns how many hours were wrong."""
    since = comparable_since()
    hour, day = (f"COALESCE(a.{key}, b.{key})" for key in ("hour", "day"))
    wrong = differing_groups("usage_usagehour", HOUR_KEYS, HOUR_GROUPS, HOUR_SUMS, since, hour, None)
    for name in HISTOGRAMS:
        wrong += differing_histograms(name, since, "hour", None)
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


def _sums_of_hours(hours: Iterable[UsageHour]) -> Rollup:
    """Adds up rows of the table `UsageHour`; returns a `Rollup`."""
    rollup = Rollup()
    for hour in hours:
        errors = hour.calls * (hour.outcome != Outcome.SUCCESS)
        sums = Sums(calls=hour.calls, errors=errors, unpriced=hour.unpriced_calls)
        sums.totals.update({name: getattr(hour, name) for name in HOUR_SUMS})
        for name in HISTOGRAMS:
            sums.histograms[name].update(enumerate(getattr(hour, f"{name}_histogram")))
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
