"""Limits the number of names in the sums by label: adds up ("folds") all but the costliest of a day or month."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from usage.database.partitions import change_tables
from usage.ids import first_id
from usage.sums.labels.label_tables import (
    CLOSED,
    CONFLICT,
    END_USER,
    GROUP_COLUMNS,
    NAMES,
    OTHERS,
    SUMS,
    TABLE,
    TAG,
    LabelSpan,
)
from usage.upkeep.differing_sums import LOCK_WRITERS

MOST_VALUES = 1000  # of a label, in a day or month that has ended: the costliest
MOST_VALUES_AT_FIRST = 10_000  # while it goes on
MOST_TAG_NAMES = 200  # in a day or month that has ended: the costliest
# While it goes on. Many, because names that come later get no sums then: a caller who makes up names must not take the
# sums of everybody's tags away.
MOST_TAG_NAMES_AT_FIRST = 10_000
LOOKED_BACK = timedelta(days=70)  # older days and months have been folded before
LATE = timedelta(days=1)  # a day or month is folded so long after its end, when most calls have come
# A call's id and start are read from the clock one after the other, and the clock may be set between. So much, because
# sums are deleted before they are computed again from the rows that are found.
ID_LEEWAY = timedelta(days=1)

_MANY_VALUES = f"""
    SELECT span, label, start, count(DISTINCT value) FROM {TABLE}
    WHERE label <> '' AND start >= %s AND value <> '{OTHERS}' GROUP BY 1, 2, 3 HAVING count(DISTINCT value) > %s
"""
_MANY_NAMES = f"""
    SELECT span, start, count(DISTINCT label) FROM {TABLE}
    WHERE label LIKE '{TAG}%%' AND label <> '{CLOSED}' AND start >= %s
    GROUP BY 1, 2 HAVING count(DISTINCT label) > %s
"""
_OLD_END_USERS = f"""
    SELECT span, start FROM {TABLE} WHERE label = '{END_USER}' AND value <> '{OTHERS}' AND start < %s GROUP BY 1, 2
"""
_FOLD = f"""
    WITH kept AS (
        SELECT value FROM {TABLE} WHERE (span, label, start) = (%s, %s, %s) AND value <> '{OTHERS}'
        GROUP BY value ORDER BY sum(cost) DESC, sum(calls) DESC, value LIMIT %s
    ), gone AS (
        DELETE FROM {TABLE} WHERE (span, label, start) = (%s, %s, %s) AND value <> '{OTHERS}'
            AND value NOT IN (SELECT value FROM kept) RETURNING *
    )
    INSERT INTO {TABLE} ({NAMES})
    SELECT span, label, start, '{OTHERS}', {", ".join(GROUP_COLUMNS)}, {", ".join(f"sum({name})" for name in SUMS)}
    FROM gone GROUP BY span, label, start, {", ".join(GROUP_COLUMNS)}
    {CONFLICT}
"""
_CLOSE = f"""
    WITH kept AS (
        SELECT label FROM {TABLE} WHERE (span, start) = (%s, %s) AND label LIKE '{TAG}%%' AND label <> '{CLOSED}'
        GROUP BY label ORDER BY sum(cost) DESC, sum(calls) DESC, label LIMIT %s
    ), gone AS (
        DELETE FROM {TABLE} WHERE (span, start) = (%s, %s) AND label LIKE '{TAG}%%' AND label <> '{CLOSED}'
            AND label NOT IN (SELECT label FROM kept)
    )
    INSERT INTO {TABLE} ({NAMES})
    VALUES (%s, '{CLOSED}', %s, {", ".join(["''"] * (1 + len(GROUP_COLUMNS)))}, {", ".join(["0"] * len(SUMS))})
    ON CONFLICT DO NOTHING
"""


class Period(NamedTuple):
    """A day or month (UTC) whose sums by label can be shortened; `start` is its first day."""

    span: LabelSpan
    start: date

    @property
    def end(self) -> datetime:
        """The time at which this day or month ends."""
        after = self.start + timedelta(days=1 if self.span == "day" else 31)
        return datetime.combine(after if self.span == "day" else after.replace(day=1), time(), UTC)

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The lower bound and the exclusive upper bound of the request ids of the period's calls.

        Some calls before and after the period have ids within these bounds, too.
        """
        return first_id(datetime.combine(self.start, time(), UTC) - ID_LEEWAY), first_id(self.end + ID_LEEWAY)

    def has_ended(self, now: datetime) -> bool:
        """Returns whether this day or month ended at least a day before `now`; then most of its calls are stored."""
        return self.end + LATE <= now


def fold_labels(now: datetime, oldest: date = date.max) -> int:
    """Shortens the sums by label (end user or tag) of each day and month: only the costliest values keep their own.

    Returns how many lists of values or of tags were shortened.

    * Values: the costliest `MOST_VALUES` of each label keep their sums. The sums of the others are added up as
      `OTHERS`.
    * Tags: the costliest `MOST_TAG_NAMES` tags keep their sums. The sums of the others are deleted, and a row with the
      label `CLOSED` says so.
    * Until a day or month has ended, the limits are `MOST_VALUES_AT_FIRST` and `MOST_TAG_NAMES_AT_FIRST`.
    * These limits apply to the days and months of about the last 70 days (`LOOKED_BACK`), and to all since `oldest`.
    * End users older than RETENTION_DAYS lose their names, in all days and months: they are added up as `OTHERS`. If
      the setting is 0, they do not.

    Raises:
        django.db.OperationalError: other transactions kept the table locked; what was shortened before stays so.
    """
    shortened = 0
    since = min(oldest, (now - LOOKED_BACK).date().replace(day=1))
    for span, start, names in _read(_MANY_NAMES, since, MOST_TAG_NAMES):
        most = MOST_TAG_NAMES if Period(span, start).has_ended(now) else MOST_TAG_NAMES_AT_FIRST
        if names > most:
            _change(_CLOSE, [span, start, most, span, start, span, start])
            shortened += 1
    for span, label, start, values in _read(_MANY_VALUES, since, MOST_VALUES):
        most = MOST_VALUES if Period(span, start).has_ended(now) else MOST_VALUES_AT_FIRST
        if values > most:
            _fold(span, label, start, most)
            shortened += 1
    if settings.RETENTION_DAYS:
        old = now - timedelta(days=settings.RETENTION_DAYS)
        for span, start in _read(_OLD_END_USERS, old.date()):
            if Period(span, start).end <= old:
                _fold(span, END_USER, start, 0)
                shortened += 1
    return shortened


def _fold(span: LabelSpan, label: str, start: date, most: int) -> None:
    _change(_FOLD, [span, label, start, most, span, label, start])


def _change(statement: str, values: list[str | date | int]) -> None:
    """Executes an SQL statement in a transaction during which nobody else writes sums.

    If the tables are locked, the transaction is soon given up, and tried again a few times (`change_tables`).

    Raises:
        django.db.OperationalError: other transactions kept the table locked during all attempts.
    """

    def change(cursor: CursorWrapper) -> None:
        cursor.execute(LOCK_WRITERS)
        cursor.execute(statement, values)

    change_tables(change)


def _read(query: str, *values: str | date | int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
