"""Adds up the calls of past days and months by all labels together (`usage.models.LabelCombination`).

These sums are for reports by two labels (`usage.sums.labels.combined_reader`). They are computed from the rows of
calls, some time after a day has ended, and deleted with the names of end users. Writers of rows do not know them: a
period whose sums are not those of its days any more is not read, and is added up anew. So is one with a row that was
replaced (`usage.sums.labels.changed_days`).

To bound the number of sums, only the costliest end users of a period keep their names, and a period gets no sums if
they would be nearly as many as its calls. A period gets none either if its rows do not add up to the totals of its
days: then it is tried again only when these totals change, or by `ledger sum`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import connection

from usage.database.clock import database_now
from usage.database.lock import try_lock, wait_for_lock
from usage.models import LabelPeriod, Span
from usage.sums.labels.combined_reader import DAY_SQL, IS_RIGHT, TAGS_SQL, TOTALS_OF_DAYS, ids_of_days
from usage.sums.labels.label_tables import GROUP_COLUMNS, OTHERS, ROW_SUMS, SUMS
from usage.sums.labels.span_ranges import next_month
from usage.sums.pruned_calls import comparable_since, oldest_call
from usage.sums.summed_names import SUMMED_MODEL_SQL
from usage.sums.totals_reader import ceiling
from usage.upkeep.differing_sums import adding_cursor

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)
LATE = timedelta(hours=1)  # a day is added up so long after its end, when most calls have come
DAYS_KEPT = timedelta(days=100)  # days have sums of their own for so long; months keep theirs
MOST_END_USERS = 1000  # keep their names in a period: the costliest
LEAST_CALLS = 2  # that must have the same labels on average
LOCK = 0x636F6D62  # the number of an advisory lock: one process at a time adds up
NEVER_RIGHT = -1  # the number of calls in a period that was not added up yet
DaySpan = tuple[date, date]  # the first day (UTC), and the day after the last one

_COLUMNS = ", ".join((*GROUP_COLUMNS, "end_user", "tags"))
_NUMBERS = ", ".join(str(number + 1) for number in range(len(GROUP_COLUMNS) + 2))
_SUMS = ", ".join(SUMS)
_ADDED_UP = ", ".join(f"COALESCE(sum({name}), 0) AS {name}" for name in SUMS)
# The sums of the rows of some days by all labels. The parameters: two request ids, the first day, and the one to end
# before; how many end users keep their names.
_SUMS_OF_ROWS = f"""
    WITH every AS MATERIALIZED (
        SELECT key_name, team, owner, {SUMMED_MODEL_SQL} AS model, route, end_user, tags,
               {", ".join(f"{expression} AS {name}" for name, expression in ROW_SUMS.items())}
        FROM usage_request WHERE request_id >= %s AND request_id < %s AND {DAY_SQL} >= %s AND {DAY_SQL} < %s
        GROUP BY {_NUMBERS}
    ), kept AS (
        SELECT end_user FROM every WHERE end_user <> ''
        GROUP BY end_user ORDER BY sum(cost) DESC, sum(calls) DESC, end_user LIMIT %s
    )
    SELECT {", ".join(GROUP_COLUMNS)},
           CASE WHEN end_user = '' OR end_user IN (SELECT end_user FROM kept) THEN end_user ELSE '{OTHERS}' END
               AS end_user, {TAGS_SQL} AS tags, {_ADDED_UP}
    FROM every GROUP BY {_NUMBERS}
"""
# Stores the totals of a period's days, and its sums by all labels unless they are too many, or do not add up to these
# totals. Stores nothing if a writer has marked the period meanwhile. The parameters: those of `_SUMS_OF_ROWS`,
# `LEAST_CALLS`, the period, and its stored number of calls.
_ADD_UP = f"""
    WITH found AS MATERIALIZED ({_SUMS_OF_ROWS}), changed AS (
        UPDATE usage_labelperiod AS period SET ({_SUMS}) = ({TOTALS_OF_DAYS}),
            has_others = EXISTS (SELECT FROM found WHERE end_user = '{OTHERS}'),
            is_summed = (SELECT count(*) * %s <= COALESCE(sum(calls), 0) FROM found)
                AND EXISTS (({TOTALS_OF_DAYS}) INTERSECT SELECT {_ADDED_UP} FROM found)
        WHERE id = %s AND calls = %s RETURNING id, is_summed
    )
    INSERT INTO usage_labelcombination (period_id, number, {_COLUMNS}, {_SUMS})
    SELECT id, row_number() OVER (), {_COLUMNS}, {_SUMS} FROM found, changed WHERE is_summed
"""
_RIGHT = f"SELECT id, first, until, is_summed FROM usage_labelperiod AS period WHERE {IS_RIGHT}"
# The sums of a period that are not those of its rows. The parameters: those of `_SUMS_OF_ROWS`, and the period.
_DIFFERING = f"""
    WITH a AS ({_SUMS_OF_ROWS}), b AS (SELECT {_COLUMNS}, {_SUMS} FROM usage_labelcombination WHERE period_id = %s)
    SELECT {_COLUMNS} FROM ((TABLE a EXCEPT TABLE b) UNION (TABLE b EXCEPT TABLE a)) AS differing LIMIT 1
"""
# Whether the rows of a period without sums add up to its totals. The parameters: two request ids, the first day and the
# one to end before, and the period.
_ADDS_UP = f"""
    SELECT EXISTS (
        SELECT {", ".join(ROW_SUMS.values())} FROM usage_request
        WHERE request_id >= %s AND request_id < %s AND {DAY_SQL} >= %s AND {DAY_SQL} < %s
        INTERSECT SELECT {", ".join(ROW_SUMS)} FROM usage_labelperiod WHERE id = %s
    )
"""


def combine_labels(stopping: threading.Event | None = None, now: datetime | None = None, *, anew: bool = False) -> int:
    """Stores the sums of days and months by all labels together (end user and tags); returns how many it has computed.

    The last `DAYS_KEPT` days and all months get such sums; those of the present month end with yesterday. A day or
    month whose sums are right, or whose rows may have been deleted, is not computed. The sums of all other days and
    months, and those older than RETENTION_DAYS, are deleted.

    * `stopping`: an event; once it is set, the function returns early.
    * `now`: the database's time by default.
    * `anew`: replaces right sums, too. While another process computes sums, this one waits. Otherwise it returns 0.

    Raises:
        django.db.Error: the database has failed; the sums that were computed before stay.
    """
    with _only_process(waits=anew) as is_mine:
        if not is_mine:
            return 0
        now = now or database_now()
        delete_old_combinations(now)  # first, since adding up may fail again and again
        rows_since, oldest = _oldest_days(now)
        wanted = set(_wanted_periods(oldest, (now - LATE).astimezone(UTC).date()))
        right = set() if anew else _right_periods()
        number = 0
        for days in sorted(days for days in wanted - right if days[0] >= rows_since):
            if stopping is not None and stopping.is_set():
                return number
            _add_up(days)
            number += 1
        for period in LabelPeriod.objects.all():  # at last, so that the present month is never without sums
            if (period.first, period.until) not in wanted:
                period.delete()
        return number


def delete_old_combinations(now: datetime) -> None:
    """Deletes the sums by all labels of days and months older than RETENTION_DAYS, since they name end users."""
    LabelPeriod.objects.filter(first__lt=_oldest_days(now)[1]).delete()


def wrong_combinations(since: datetime | None) -> Iterator[str]:
    """Compares the sums by end user and all tags together with the rows of calls; yields a text for each wrong period.

    A period is a day or month. It is wrong if its sums are not those of its rows (the message names one differing group
    of calls), or if it has no such sums because its rows do not add up to the totals of its days.

    With `since`, only periods that begin at this time or later are compared. Periods whose totals or rows have changed
    since they were added up are skipped, because no report reads their sums.
    """
    first = ceiling(since, Span.DAY).date() if since else date.min
    with adding_cursor() as cursor:
        cursor.execute(f"{_RIGHT} AND first >= %s ORDER BY first, until", [first])
        for number, *days, is_summed in cursor.fetchall():
            when, rows = f"from {days[0]} to {days[1] - DAY}", [*ids_of_days(*days), *days]
            if not is_summed:
                cursor.execute(_ADDS_UP, [*rows, number])
                if cursor.fetchone() == (False,):
                    yield f"usage_labelperiod has no sums by all labels {when}: rows and totals of days differ"
                continue
            cursor.execute(_DIFFERING, [*rows, MOST_END_USERS, number])
            if found := cursor.fetchone():
                group = " / ".join(found).replace(OTHERS, "(others)").replace("\n", " ")
                yield f"usage_labelcombination is not the sum of its rows {when} for {group}"


@contextmanager
def _only_process(*, waits: bool) -> Iterator[bool]:
    """Context manager that lets only one process at a time compute the sums by all labels together (end user and tags).

    It yields True if this process may compute them, and False if another process does so now. If `waits` is true, it
    waits for the other process, and always yields True.
    """
    if not waits:
        with try_lock(LOCK) as is_mine:
            yield is_mine
        return
    with wait_for_lock(LOCK, lambda: logger.info("another process adds up by all labels; this one waits")):
        yield True


def _oldest_days(now: datetime) -> DaySpan:
    """Returns two days (UTC): the first from which on all rows of calls are kept, and the first whose sums are kept.

    The sums are those by all labels together. They are kept for RETENTION_DAYS, but not longer than the rows of their
    days.
    """
    pruned = comparable_since()
    kept = (now - timedelta(days=settings.RETENTION_DAYS)).date() if settings.RETENTION_DAYS else date.min
    if pruned is None:
        since = (oldest_call("usage_request") or now).date().replace(day=1)
        return since, max(since, kept)
    # Of the day before that mark, rows are kept that can no longer be compared with other sums.
    return ceiling(pruned, Span.DAY).date(), max(kept, (pruned - DAY).date())


def _wanted_periods(oldest: date, today: date) -> Iterator[DaySpan]:
    """Yields the days and months that should have sums by all labels together (end user and tags), as pairs of dates.

    A pair is the first day, and the day after the last one; all days are from `oldest` until before `today`. Months
    must begin at `oldest` or later; the present one is cut at `today`. Of the single days, only the last 100
    (`DAYS_KEPT`) are yielded.
    """
    day = max(oldest, today - DAYS_KEPT)
    while day < today:
        yield day, day + DAY
        day += DAY
    month = oldest if oldest.day == 1 else next_month(oldest)
    while month < today:
        yield month, min(next_month(month), today)
        month = next_month(month)


def _right_periods() -> set[DaySpan]:
    """Returns the days and months whose stored sums by all labels together are still right, as pairs of dates.

    A pair is the first day, and the day after the last one. Days and months for which `_add_up` has decided to store no
    such sums are included.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RIGHT)
        return {(first, until) for _, first, until, _ in cursor.fetchall()}


def _add_up(days: DaySpan) -> None:
    """Computes the sums of one day or month by all labels together (end user and tags), and replaces the stored ones.

    No sums by label are stored if they are nearly as many as the calls, or do not add up to the totals of the days. If
    a row of these days is replaced meanwhile, nothing is stored, and the next run computes the sums.
    """
    # It must exist before the rows are read, so that a writer who replaces one of them can mark it.
    none: dict[str, int] = {**dict.fromkeys(SUMS, 0), "calls": NEVER_RIGHT}
    period, _ = LabelPeriod.objects.get_or_create(
        first=days[0], until=days[1], defaults={"is_summed": False, "has_others": False, **none}
    )
    with adding_cursor() as cursor:
        cursor.execute("DELETE FROM usage_labelcombination WHERE period_id = %s", [period.pk])
        cursor.execute(_ADD_UP, [*ids_of_days(*days), *days, MOST_END_USERS, LEAST_CALLS, period.pk, period.calls])
