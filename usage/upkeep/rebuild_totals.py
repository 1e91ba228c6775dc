"""Rebuilds the totals and the counts of failures from the sums of hours and the rows.

This is needed after an update, if older code that did not have these tables has written to the database, or when
`ledger verify` finds them wrong. Meanwhile, writers wait; none of their calls is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import TruncDay

from usage.call_record import SummedRow
from usage.database.clock import database_now
from usage.ids import first_id
from usage.models import FAILED, NEEDS_PRICE, ErrorTotal, Outcome, Request, Span, UsageHour, UsageTotal
from usage.sums.adding_up import HISTOGRAMS, HOUR_KEYS, HOUR_SUMS, SUMMED_NAMES, Rollup, Sums
from usage.sums.pruned import comparable_since
from usage.sums.totals_reader import MINUTES_KEPT, ceiling

BATCH_SIZE = 5000


def rebuild_totals(now: datetime | None = None) -> None:
    """Computes the dashboard's totals and the counts of failures again, from the table of hours and from the rows of
    calls.

    The new ones replace the old, except for the counts of failures of days whose rows have been deleted.
    """
    now = now or database_now()
    with transaction.atomic(), connection.cursor() as cursor:
        # Writers add to the table of hours in the transaction that inserts rows. They wait for this lock, so all rows
        # that are read here have been added to the hours.
        cursor.execute("LOCK TABLE usage_usagehour IN SHARE MODE")
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


def _sums_of_hours(hours: Iterable[UsageHour]) -> Rollup:
    """Adds up rows of the table `UsageHour`, and returns their sums as a `Rollup`."""
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
    """Reads the rows of calls for `Rollup.add`."""
    return cast(Iterable[SummedRow], calls.annotate(needs_price=NEEDS_PRICE).values(*SUMMED_NAMES))


def _sums_of_rows(calls: QuerySet[Request]) -> Iterable[Rollup]:
    """Adds up the rows of the given calls, and yields a `Rollup` for every `BATCH_SIZE` rows.

    No more rows than that are in memory at a time.
    """
    calls = calls.order_by("request_id")
    batch = list(summed_rows(calls[:BATCH_SIZE]))
    while batch:
        last = batch[-1]["request_id"]
        rollup = Rollup()
        rollup.add(batch)
        yield rollup
        batch = list(summed_rows(calls.filter(request_id__gt=last)[:BATCH_SIZE]))
