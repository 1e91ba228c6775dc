"""Knows which calls have been pruned: their rows are deleted because of their age, and only sums still count them.

`usage.upkeep.retention` deletes rows, and stores in `LedgerState` up to when. Code that compares sums with rows, or
delivers old calls again, asks here since when the rows are complete.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection

from usage.database.clock import database_now
from usage.ids import first_id, time_of
from usage.models import LedgerState, Span
from usage.sums.totals_reader import ceiling

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST_CALL = datetime(2020, 1, 1, tzinfo=UTC)  # the API is younger; an older id was made by a wrong clock


def comparable_since() -> datetime | None:
    """Returns the time since which no rows of calls have been deleted because of their age; None if none ever were.

    Older sums count calls without rows, so they cannot be compared with rows. If the stored time is in the future,
    because of a wrong clock, the result is one day after the start of the oldest call with a row; without such a call,
    it is the stored time.
    """
    mark = _stored_state().pruned_before
    if mark is None or credible_mark(mark, database_now()):
        return mark
    oldest = oldest_call("usage_request")
    return oldest + DAY if oldest else mark


def histograms_since() -> datetime | None:
    """Returns the time from which on each hour's sums have a histogram of durations; None if all hours' sums have.

    Histograms of older hours have been deleted. If a wrong clock has stored a time in the future, any histogram may
    have been deleted: the result is then the end of the present day (UTC).
    """
    mark = _stored_state().histograms_emptied_before
    now = database_now()
    return ceiling(now, Span.DAY) if mark and mark > now else mark


def latest(*times: datetime | None) -> datetime | None:
    """Returns the latest of several times, some of which may be None; None if all are None."""
    return max(filter(None, times), default=None)


def hours_with_pruned_calls(hours: Collection[datetime]) -> set[datetime]:
    """Returns those of the given hours whose sums count more calls than there are rows, since rows have been pruned.

    Pruned means deleted because of their age.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT sums.hour FROM usage_usagehour AS sums
            JOIN unnest(%s::timestamptz[], %s::uuid[], %s::uuid[]) AS wanted (hour, first_id, end_id) USING (hour)
            GROUP BY sums.hour, first_id, end_id
            HAVING sum(calls) >
                (SELECT count(*) FROM usage_request
                 WHERE request_id >= first_id AND request_id < end_id AND NOT by_gateway)
            """,
            [list(hours), [first_id(hour) for hour in hours], [first_id(hour + HOUR) for hour in hours]],
        )
        return {hour for (hour,) in cursor.fetchall()}


def pruned_ids_end() -> UUID | None:
    """Returns a request id below which all rows of calls have been pruned: deleted because of their age.

    Returns None if no rows have been pruned, or if the stored time is in the future, because of a wrong clock.
    """
    # Request ids are in the order of time.
    mark = credible_mark(_stored_state().pruned_before, database_now())
    return first_id(mark - DAY) if mark else None


def _stored_state() -> LedgerState:
    """Reads the stored state of the ledger, such as when rows were pruned; returns an empty one if none is stored.

    Unlike `LedgerState.load`, it does not create the row.
    """
    # Pages ask in a snapshot (`usage.database.snapshot`), in which nothing can be written.
    return LedgerState.objects.filter(pk=1).first() or LedgerState()


def credible_mark(mark: datetime | None, now: datetime) -> datetime | None:
    """Returns `mark`, the stored time up to which old data were deleted, or None if it cannot be true.

    It cannot be true if it is in the future, where a wrong clock has put it. If `mark` is None, the result is None.
    """
    return mark if mark and mark <= now else None


def oldest_call(table: str, since: datetime = FIRST_CALL) -> datetime | None:
    """Returns the start of the oldest call that began at `since` or later and has a row in `table`, or None.

    The start is the time in the call's request id. Ids from before `FIRST_CALL` are ignored: a wrong clock made them.
    """
    with connection.cursor() as cursor:
        query = f"SELECT request_id FROM {table} WHERE request_id >= %s ORDER BY request_id LIMIT 1"
        cursor.execute(query, [first_id(max(since, FIRST_CALL))])
        found: tuple[UUID] | None = cursor.fetchone()
    return time_of(found[0]) if found else None
