"""Compares the sums by label of months with those of their days, and corrects months whose rows are incomplete.

Rows of calls are deleted ("pruned") by months, and the sums of a month whose first rows may be gone cannot be compared
with rows. They can be compared with the sums of the days, since folding names changes no sum of a label with the same
key, team, owner, model and route.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from usage.database.snapshot import one_snapshot
from usage.models import LabelTotal, Span
from usage.sums.labels.label_tables import ADD_LABELS, CLOSED, GROUP_COLUMNS, OTHERS, SUMS, TABLE, TAG
from usage.sums.totals_reader import ceiling
from usage.sums.totals_rollup import Group
from usage.upkeep.differing_sums import DIFFERS, adding_cursor
from usage.upkeep.sum_mending.group_differences import add_groups

_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
_GROUP = ("start", "label", *GROUP_COLUMNS)
_NAMES = ", ".join(_GROUP)
_DIFFERENCES = ", ".join(f"COALESCE(a.{name}, 0) - COALESCE(b.{name}, 0)" for name in SUMS)
_MONTH = "date_trunc('month', start)::date"
# The groups of months that are not the sums of their days. The parameters: the first month, and the one to end before.
# In a month with tags that have no sums, days may have other tags without sums.
_DIFFERING = f"""
    WITH known AS (SELECT * FROM {TABLE} WHERE start >= %(first)s AND start < %(end)s AND label <> '{CLOSED}'),
    closed AS (SELECT DISTINCT {_MONTH} AS month FROM {TABLE} WHERE label = '{CLOSED}'),
    a AS (SELECT {_MONTH} AS start, {", ".join(_GROUP[1:])}, {_ADDED_UP} FROM known WHERE span = 'day'
          GROUP BY {_MONTH}, {", ".join(_GROUP[1:])}),
    b AS (SELECT {_NAMES}, {_ADDED_UP} FROM known WHERE span = 'month' GROUP BY {_NAMES})
    SELECT {_NAMES}, {_DIFFERENCES}
    FROM a FULL JOIN b USING ({_NAMES})
    WHERE ({" OR ".join(map(DIFFERS.format, SUMS))})
      AND (label NOT LIKE '{TAG}%%' OR start NOT IN (SELECT month FROM closed)) ORDER BY {_NAMES} LIMIT %(most)s
"""
_VALUE = ("value", *GROUP_COLUMNS)
_VALUES = ", ".join(_VALUE)
# What the sums of one label and month lack, by value, to be those of the month's days. The common row comes last, since
# values that come after it in another transaction would be counted in it.
_MISSING = f"""
    WITH a AS (SELECT {_VALUES}, {_ADDED_UP} FROM {TABLE}
               WHERE span = 'day' AND label = %(label)s AND start >= %(start)s AND start < %(end)s GROUP BY {_VALUES}),
    b AS (SELECT * FROM {TABLE} WHERE span = 'month' AND label = %(label)s AND start = %(start)s)
    SELECT {_VALUES}, {_DIFFERENCES} FROM a FULL JOIN b USING ({_VALUES})
    WHERE {" OR ".join(map(DIFFERS.format, SUMS))} ORDER BY value = '{OTHERS}', {_VALUES}
"""


def wrong_months(since: datetime | None) -> Iterator[str]:
    """Compares months' sums by label (end user or tag) with those of their days; yields a sentence for each wrong sum.

    At most 100 sentences are yielded. Only months that begin at `since` or later are compared; all if it is None. Tags
    are left out in a month in which some tags have no sums (`CLOSED`).
    """
    first = ceiling(since, Span.MONTH).date() if since else date.min
    for group in _differing(first, date.max, 100):
        yield f"{TABLE} has other days than the month {' / '.join(str(group[name]) for name in _GROUP)}"


def mend_months(end: date) -> None:
    """Corrects the sums by label (end user or tag) of months, so that each month has the sums of its days.

    Only months that begin before `end` are corrected. The caller must hold the lock `usage.upkeep.sum_mending.SUMMING`.

    The sums of each value of a label are corrected. This is impossible if the month or one of its days counts some
    values together, as `OTHERS`: then the whole difference is added to `OTHERS`. In a month in which some tags have no
    sums (`CLOSED`), the sums of tags stay as they are.
    """
    for start, label in dict.fromkeys((group["start"], group["label"]) for group in _differing(date.min, end, None)):
        add_groups(ADD_LABELS, _missing_by_value(start, label))
    rest = _differing(date.min, end, None)
    add_groups(ADD_LABELS, [{"span": "month", "value": OTHERS if group["label"] else "", **group} for group in rest])


def _missing_by_value(month: date, label: str) -> list[Group]:
    """Returns the amounts to add to a month's sums of one label, so that these equal the sums of the month's days.

    There is one group of amounts for each value of the label whose sums differ. An amount is negative if the month's
    sum is too high.

    The list is also empty if the values cannot be compared: the month has sums of the label, and the month or one of
    its days counts some values together as `OTHERS`.
    """
    end = (month + timedelta(days=31)).replace(day=1)
    of_label = LabelTotal.objects.filter(label=label, start__gte=month, start__lt=end)
    with one_snapshot():
        if of_label.filter(span="month").exists() and of_label.filter(value=OTHERS).exists():
            return []
        with adding_cursor() as cursor:
            cursor.execute(_MISSING, {"label": label, "start": month, "end": end})
            found = [dict(zip((*_VALUE, *SUMS), row, strict=True)) for row in cursor]
    return [{"span": "month", "label": label, "start": month, **group} for group in found]


def _differing(first: date, end: date, most: int | None) -> list[dict[str, Any]]:
    """Compares the sums by label of months with those of their days; returns the groups with different sums.

    A group has its month, label, key, team, owner, model and route, and the amounts to add to the month's sums. Only
    months from `first` until before `end` are compared. Tags are left out in a month in which some tags have no sums
    (`CLOSED`). At most `most` groups are returned; all if it is None.
    """
    with adding_cursor() as cursor:
        cursor.execute(_DIFFERING, {"first": first, "end": end, "most": most})
        return [dict(zip((*_GROUP, *SUMS), row, strict=True)) for row in cursor]
