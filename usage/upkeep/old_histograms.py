"""Empties the histograms of old hours, which take most of the space of the sums. The totals keep theirs.

There is a histogram of an hour for each key, model, route and outcome. Pages read them for the latency of one key's
calls, within a day or by model and route; older latencies are shown as unknown.

So that a wrong clock does little harm, one run empties at most `MOST_DAYS` days with calls; `ledger prune --yes`
empties all old ones.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from django.db import connection, transaction

from usage.database.lock import try_lock
from usage.models import LedgerState, Span, UsageHour
from usage.sums.pruned_calls import DAY, FIRST_CALL, credible_mark
from usage.sums.sum_tables import HISTOGRAMS, NAMED, PACKED
from usage.sums.totals_reader import floor
from usage.upkeep.rebuild_totals import rebuild_day, rebuild_month
from usage.upkeep.sum_mending import SUMMING

HISTOGRAMS_KEPT = timedelta(days=63)  # as long as pages call them those of last month
MOST_DAYS = 3

# Whether totals of a day lack durations: those of calls that a version without this column has added.
LACKS_DURATIONS = f"""
    SELECT EXISTS (
        SELECT FROM usage_usagetotal
        WHERE span IN ('hour', 'day') AND dimension IN ({", ".join(f"'{dimension}'" for dimension in NAMED)})
          AND start >= %s AND start < %s
          AND calls <> (SELECT COALESCE(sum(count), 0)
                        FROM unnest(duration_ms_histogram || durations[2:]::bigint[]) AS count)
    )
"""
EMPTIED = (*PACKED.values(), *(f"{name}_histogram" for name in HISTOGRAMS))
EMPTY = f"""
    UPDATE usage_usagehour SET {", ".join(f"{column} = '{{}}'" for column in EMPTIED)}
    WHERE hour >= %s AND hour < %s
"""


def empty_old_histograms(now: datetime, stopping: threading.Event, *, all_at_once: bool = False) -> int:
    """Empties latency histograms of hours older than `HISTOGRAMS_KEPT`, day by day; returns the number of days.

    At most `MOST_DAYS` days are emptied, unless `all_at_once` is true. It returns early once the event `stopping` is
    set, and at a day that cannot be emptied now, because another process is correcting sums.
    """
    end = floor(now - HISTOGRAMS_KEPT, Span.DAY)
    stored = LedgerState.load().histograms_emptied_before
    # A stored time in the future was left by a wrong clock, which had emptied the days before it.
    begin = credible_mark(stored, now) or (end - MOST_DAYS * DAY if stored else FIRST_CALL)
    days = 0
    while (all_at_once or days < MOST_DAYS) and not stopping.is_set():
        hours = UsageHour.objects.filter(hour__gte=begin, hour__lt=end).order_by("hour")
        first = hours.values_list("hour", flat=True).first()
        if first is None:
            break
        begin = floor(first, Span.DAY) + DAY
        if not _empty(begin - DAY):
            break
        days += 1
    return days


def _empty(day: datetime) -> bool:
    """Empties the latency histograms of the hours of one day (UTC); returns False if that is impossible now.

    If totals of the day lack durations, first computes the totals of the day and its month anew. While another process
    is correcting sums, this is impossible, and nothing is changed. Afterwards, stores the end of the day in
    `LedgerState` as the time before which hours have no histograms.
    """
    with connection.cursor() as cursor:
        cursor.execute(LACKS_DURATIONS, [day, day + DAY])
        [(lacks_durations,)] = cursor.fetchall()
    if lacks_durations:
        with try_lock(SUMMING) as is_mine:
            if not is_mine:
                return False
            rebuild_day(day)
            rebuild_month(floor(day, Span.MONTH))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(EMPTY, [day, day + DAY])
        LedgerState.objects.filter(pk=1).update(histograms_emptied_before=day + DAY)
    return True
