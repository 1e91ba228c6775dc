"""Compares the sums by label of months with those of their days, and corrects months whose rows are incomplete.

Rows of calls are deleted ("pruned") by months, and the sums of a month whose first rows may be gone cannot be compared
with rows. They can be compared with the sums of the days, since folding names changes no sum of a label with the same
key, team, owner, model and route.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection

from usage.models import LabelTotal, Span
from usage.sums.adding_up import Group
from usage.sums.labels.tables import ADD_LABELS, CLOSED, GROUP_COLUMNS, KEYS, OTHERS, SUMS, TABLE, TAG
from usage.sums.totals_reader import ceiling
from usage.upkeep.differing_sums import DIFFERS, adding_cursor
from usage.upkeep.sum_mending.group_differences import add_groups

_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
_GROUP = ("start", "label", *GROUP_COLUMNS)
_NAMES = ", ".join(_GROUP)
_MONTH = "date_trunc('month', start)::date"
# The groups of months that are not the sums of their days. The parameters: the first month, and the one to end before.
# In a month with tags that have no sums, days may have other tags without sums.
_DIFFERING = f"""
    WITH known AS (SELECT * FROM {TABLE} WHERE start >= %(first)s AND start < %(end)s AND label <> '{CLOSED}'),
    closed AS (SELECT DISTINCT {_MONTH} AS month FROM {TABLE} WHERE label = '{CLOSED}'),
    a AS (SELECT {_MONTH} AS start, {", ".join(_GROUP[1:])}, {_ADDED_UP} FROM known WHERE span = 'day'
          GROUP BY {_MONTH}, {", ".join(_GROUP[1:])}),
    b AS (SELECT {_NAMES}, {_ADDED_UP} FROM known WHERE span = 'month' GROUP BY {_NAMES})
    SELECT {_NAMES}, {", ".join(f"COALESCE(a.{name}, 0) - COALESCE(b.{name}, 0)" for name in SUMS)}
    FROM a FULL JOIN b USING ({_NAMES})
    WHERE ({" OR ".join(map(DIFFERS.format, SUMS))})
      AND (label NOT LIKE '{TAG}%%' OR start NOT IN (SELECT month FROM closed)) ORDER BY {_NAMES} LIMIT %(most)s
"""
_OF_DAYS = f"""
    SELECT 'month', label, {_MONTH}, value, {", ".join((*GROUP_COLUMNS, _ADDED_UP))} FROM {TABLE}
    WHERE span = 'day' AND label = %s AND start >= %s AND start < %s
    GROUP BY label, {_MONTH}, value, {", ".join(GROUP_COLUMNS)} ORDER BY value, {", ".join(GROUP_COLUMNS)}
"""


def wrong_months(since: datetime | None) -> Iterator[str]:
    """Yields a line of text for each sum of a month that is not the sum of its days, for at most 100.

    Only months that begin at `since` or later are compared; all if it is None.
    """
    first = ceiling(since, Span.MONTH).date() if since else date.min
    for group in _differing(first, date.max, 100):
        yield f"{TABLE} has other days than the month {' / '.join(str(group[name]) for name in _GROUP)}"


def mend_months(end: date) -> None:
    """Corrects the sums of the months that begin before `end` by those of their days.

    Calls that a value lacks are added to the common row (`OTHERS`), unless the month has no sums of the label at all.
    The caller must hold the lock `usage.upkeep.sum_mending.SUMMING`.
    """
    for start, label in dict.fromkeys((group["start"], group["label"]) for group in _differing(date.min, end, None)):
        if not LabelTotal.objects.filter(span="month", start=start, label=label).exists():
            add_groups(ADD_LABELS, _sums_of_days(start, label))
    rest = _differing(date.min, end, None)
    add_groups(ADD_LABELS, [{"span": "month", "value": OTHERS if group["label"] else "", **group} for group in rest])


def _sums_of_days(month: date, label: str) -> list[Group]:
    """Returns the sums of a label in the month that begins at `month`, by value, computed from those of its days."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_DAYS, [label, month, (month + timedelta(days=31)).replace(day=1)])
        return [dict(zip((*KEYS, *SUMS), row, strict=True)) for row in cursor]


def _differing(first: date, end: date, most: int | None) -> list[dict[str, Any]]:
    """Returns at most `most` wrong groups of months from `first` until before `end`, and what they lack."""
    with adding_cursor() as cursor:
        cursor.execute(_DIFFERING, {"first": first, "end": end, "most": most})
        return [dict(zip((*_GROUP, *SUMS), row, strict=True)) for row in cursor]
