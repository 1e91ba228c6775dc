"""Corrects all sums: those of hours by the rows of calls, those of days by hours, those of months by days.

This is needed after an update, if older code without these tables or columns has written to the database, or when
`ledger verify` finds wrong sums. Writers go on meanwhile, since only the missing difference is added to a sum
(`usage.upkeep.sum_mending`). If the process ends too early, each sum is either right or unchanged. Sums of hours whose
rows may have been pruned (deleted) stay as they are, and sums of days and months are computed from them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import cast
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Trunc

from usage.call_record import SummedRow
from usage.database.clock import database_now
from usage.database.lock import wait_for_lock
from usage.database.snapshot import one_snapshot
from usage.ids import first_id
from usage.models import NEEDS_PRICE, Dimension, Outcome, Request, Span, UsageHour, UsageTotal
from usage.sums.group_sums import Sums
from usage.sums.histogram import added, unpack
from usage.sums.pruned_calls import DAY, comparable_since, histograms_since, latest
from usage.sums.sum_tables import (
    ALL_OF_HOURS,
    BREAKDOWNS,
    DAYS,
    FAILURES,
    HISTOGRAMS,
    HOUR_KEYS,
    HOUR_SUMS,
    MAXES,
    OF_MONTHS,
    PACKED,
    PEAKS,
    SUMMED_NAMES,
    TEAM_DAYS,
    TOTALS,
    HistogramName,
)
from usage.sums.totals_reader import MINUTES_KEPT, ceiling, floor
from usage.sums.totals_rollup import Rollup
from usage.upkeep.differing_sums import HOUR as HOUR_SQL
from usage.upkeep.differing_sums import (
    HOUR_GROUPS,
    differing_groups,
    differing_histograms,
    one_snapshot_of_rows,
    without_writers,
)
from usage.upkeep.label_sums.label_check import rebuild_labels
from usage.upkeep.sum_mending import SUMMING
from usage.upkeep.sum_mending.group_differences import add_groups, missing_groups
from usage.upkeep.sum_mending.missing_sums import (
    missing_days,
    missing_failures,
    missing_team_days,
    stored_groups,
    sums_of_days,
)
from usage.upkeep.wrong_totals import differing_peaks

logger = logging.getLogger(__name__)

BATCH_SIZE = 5000
TOTALS_OF_HOURS = (Span.HOUR, Span.DAY)
MINUTES_AT_ONCE = timedelta(hours=6)  # of so much time, the totals of minutes are in memory at once
# A call's id and start are read from the clock one after the other, and the clock may be set between.
ID_LEEWAY = timedelta(days=1)


def rebuild_totals(now: datetime | None = None) -> int:
    """Corrects all tables of sums; returns how many hours had wrong sums.

    If another process is correcting sums, waits for its end first. Sums that are computed from rows of calls are not
    corrected where such rows have been deleted. Long lists of values in the sums by label are shortened, too
    (`fold_labels`). `now` is the database's time by default.

    Raises:
        django.db.Error: the database has failed; earlier corrections are kept.
    """
    with wait_for_lock(SUMMING, lambda: logger.info("another process mends the sums; this one waits")):
        now = now or database_now()
        hours = _wrong_hours()
        strays = _strays(hours) if hours else []
        for day in sorted({floor(hour, Span.DAY) for hour in hours}):
            _mend_hours(day, {hour for hour in hours if floor(hour, Span.DAY) == day}, strays)
            # At once: if this process ended, and the day's rows were pruned, its hours would not be found wrong again.
            add_groups(DAYS.add, missing_days(day, day + DAY))
        with one_snapshot_of_rows():
            since = comparable_since()
            days, team_days = missing_days(since and floor(since, Span.DAY)), missing_team_days(since)
        add_groups(DAYS.add, days)
        add_groups(TEAM_DAYS.add, team_days)
        for day in _starts(Span.DAY):
            rebuild_day(day)
        for peak in differing_peaks(None, None):
            _mend_peak(peak)
        first = floor(now, Span.HOUR) - MINUTES_KEPT
        known = UsageTotal.objects.filter(span=Span.HOUR, dimension=Dimension.ALL, start__gte=first)
        for number in sorted({(hour - first) // MINUTES_AT_ONCE for hour in known.values_list("start", flat=True)}):
            _mend_minutes(first + number * MINUTES_AT_ONCE)
        _mend_failures()
        rebuild_months()
        rebuild_labels(now)
    return len(hours)


def rebuild_months() -> None:
    """Corrects the sums of all months from the sums of their days. The caller must hold the lock `SUMMING`."""
    for month in _starts(Span.MONTH):
        rebuild_month(month)


def rebuild_month(month: datetime) -> None:
    """Corrects the sums of the month (UTC) that begins at `month` from the sums of its days.

    The caller must hold the lock `SUMMING`.
    """
    for table in OF_MONTHS:
        with one_snapshot():
            stored = stored_groups(table, "span = 'month' AND start = %s", month)
            missing = missing_groups(table, sums_of_days(table, month), stored)
        add_groups(table.add, missing)


def rebuild_day(day: datetime) -> None:
    """Computes one day's totals and breakdowns (UTC), and the totals of its hours, anew from the table `UsageHour`.

    The caller must hold the lock `SUMMING`. The day's latency histograms stay as they are if its hours have none any
    more: old histograms of hours are deleted.
    """
    with one_snapshot():
        has_histograms = _has_histograms(day)
        hours = UsageHour.objects.filter(hour__gte=day, hour__lt=day + DAY)
        rollup = _sums_of_hours(hours, histograms=HISTOGRAMS if has_histograms else ())
        totals = stored_groups(TOTALS, "span IN ('hour', 'day') AND start >= %s AND start < %s", day, day + DAY)
        breakdowns = stored_groups(BREAKDOWNS, "span = 'day' AND start = %s", day)
    right = rollup.total_groups(TOTALS_OF_HOURS)
    add_groups(TOTALS.add, missing_groups(TOTALS, right, totals, histograms=has_histograms))
    with connection.cursor() as cursor:
        cursor.execute(*rollup.names())
    right = rollup.breakdown_groups({Span.DAY})
    add_groups(BREAKDOWNS.add, missing_groups(BREAKDOWNS, right, breakdowns, histograms=has_histograms))


def _starts(span: Span) -> list[datetime]:
    """Returns the start of each day, or of each month (UTC), for which there are sums of hours or totals, in order."""
    hours = UsageHour.objects.annotate(first=Trunc("hour", span, tzinfo=UTC))
    totals = UsageTotal.objects.exclude(span=Span.MINUTE).annotate(first=Trunc("start", span, tzinfo=UTC))
    return sorted({first for sums in (hours, totals) for first in sums.values_list("first", flat=True).distinct()})


def _wrong_hours() -> set[datetime]:
    """Compares the sums of hours with the rows of calls that still exist; returns the beginning of each wrong hour."""
    with one_snapshot_of_rows():
        since, hour = comparable_since(), "COALESCE(a.hour, b.hour)"
        wrong = differing_groups("usage_usagehour", HOUR_KEYS, HOUR_GROUPS, HOUR_SUMS, since, hour, None)
        for name in HISTOGRAMS:
            wrong += differing_histograms(name, latest(since, histograms_since()), "hour", None)
    return {hour for (hour,) in wrong}


def _has_histograms(day: datetime) -> bool:
    """Returns whether the sums of a day's hours (UTC) still have histograms; those of older days have been deleted.

    Call this in the same snapshot of the database in which the histograms are read.
    """
    emptied_before = histograms_since()
    return emptied_before is None or day >= emptied_before


def _strays(hours: Collection[datetime]) -> list[UUID]:
    """Returns the ids of calls in the given hours whose request id contains a wrong time.

    The time is wrong if it is more than `ID_LEEWAY` from the call's start. A search for a day's calls by a range of
    request ids misses these calls.
    """
    query = f"""
        SELECT request_id FROM usage_request WHERE {HOUR_SQL} = ANY(%s) AND abs(
            ('x' || left(request_id::text, 8) || substr(request_id::text, 10, 4))::bit(48)::bigint
            - extract(epoch FROM started_at) * 1000) > %s
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [list(hours), ID_LEEWAY / timedelta(milliseconds=1)])
        return [request_id for (request_id,) in cursor.fetchall()]


def _mend_hours(day: datetime, hours: Collection[datetime], strays: Collection[UUID]) -> None:
    """Corrects the sums of some hours of one day (UTC) from the rows of their calls.

    Hours whose rows may have been deleted are left out. `strays` are the ids of calls whose id contains a wrong time: a
    search by a range of ids does not find these calls.
    """
    ids = first_id(day - ID_LEEWAY), first_id(day + DAY + ID_LEEWAY)
    of_day = Request.objects.filter(started_at__gte=day, started_at__lt=day + DAY)
    rollup = Rollup()
    with one_snapshot_of_rows():
        since, has_histograms = comparable_since(), _has_histograms(day)
        hours = {hour for hour in hours if since is None or hour >= since}
        calls = [of_day.filter(request_id__gte=ids[0], request_id__lt=ids[1])]
        if strays:
            calls.append(of_day.filter(request_id__in=strays).exclude(request_id__gte=ids[0], request_id__lt=ids[1]))
        for batch in chain.from_iterable(map(_batches, calls)):
            rollup.add(row for row in batch if floor(row["started_at"], Span.HOUR) in hours)
        stored = stored_groups(ALL_OF_HOURS, "hour = ANY(%s)", list(hours))
    add_groups(ALL_OF_HOURS.add, missing_groups(ALL_OF_HOURS, rollup.hour_groups(), stored, histograms=has_histograms))


def _mend_peak(day: date) -> None:
    """Corrects a UTC day's longest duration and highest token counts (`UsagePeak`), from the sums of its hours.

    Other processes that write sums wait until this is done.
    """
    names = ", ".join(PEAKS.maxima)
    start = datetime.combine(day, time(), UTC)
    with without_writers() as cursor:  # a figure that is lower than before cannot be added
        cursor.execute("DELETE FROM usage_usagepeak WHERE day = %s", [day])
        cursor.execute(
            f"INSERT INTO usage_usagepeak (day, {names})"
            f" SELECT %s, {', '.join(f'max({name})' for name in PEAKS.maxima)} FROM usage_usagehour"
            " WHERE hour >= %s AND hour < %s HAVING count(*) > 0",
            [day, start, start + DAY],
        )


def _mend_minutes(first: datetime) -> None:
    """Corrects the totals of the minutes from `first` until before `first + MINUTES_AT_ONCE`, from the rows of calls.

    Minutes whose rows may have been deleted are left out.
    """
    rollup = Rollup()
    with one_snapshot_of_rows():
        start, end = max(first, ceiling(comparable_since() or first, Span.MINUTE)), first + MINUTES_AT_ONCE
        calls = Request.objects.filter(started_at__gte=start, started_at__lt=end)
        for batch in _batches(calls.filter(request_id__gte=first_id(first - ID_LEEWAY))):
            rollup.add(batch)
        stored = stored_groups(TOTALS, "span = 'minute' AND start >= %s AND start < %s", start, end)
    add_groups(TOTALS.add, missing_groups(TOTALS, rollup.total_groups({Span.MINUTE}), stored))


def _mend_failures() -> None:
    """Corrects the counts of failed calls per hour and day from the rows of calls, for days whose rows all exist."""
    with one_snapshot_of_rows():
        since = comparable_since()
        missing = missing_failures(since and ceiling(since, Span.DAY))
    add_groups(FAILURES.add, missing)


def _sums_of_hours(hours: Iterable[UsageHour], histograms: Collection[HistogramName] = ()) -> Rollup:
    """Adds up rows of the table `UsageHour`; returns the sums, with only the histograms named in `histograms`."""
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
    """Returns the rows of the given calls as dicts, with only the values from which sums are computed."""
    return cast(Iterable[SummedRow], calls.annotate(needs_price=NEEDS_PRICE).values(*SUMMED_NAMES))


def _batches(calls: QuerySet[Request]) -> Iterator[list[SummedRow]]:
    """Yields the rows of `calls`, in the order of their ids, in batches of at most `BATCH_SIZE`, to save memory.

    A row is a dict, with only the values from which sums are computed.
    """
    calls = calls.order_by("request_id")
    batch = list(summed_rows(calls[:BATCH_SIZE]))
    while batch:
        yield batch
        batch = list(summed_rows(calls.filter(request_id__gt=batch[-1]["request_id"])[:BATCH_SIZE]))
