"""Compares the sums by label with the rows of calls, and corrects wrong sums."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

from usage.models import Span
from usage.sums.labels.label_tables import (
    ADD_LABELS,
    END_USER,
    GROUP_COLUMNS,
    KEYS,
    OTHERS,
    ROW_SUMS,
    SUMS,
    TABLE,
    TAG,
    VALUE_OF_TAG,
    counted_groups,
)
from usage.sums.pruned_calls import comparable_since
from usage.sums.summed_names import SUMMED_MODEL_SQL
from usage.sums.totals_reader import ceiling
from usage.sums.totals_rollup import Group
from usage.upkeep.differing_sums import DAY, DIFFERS, adding_cursor, first_row, one_snapshot_of_rows
from usage.upkeep.label_sums.folding import Period, fold_labels
from usage.upkeep.label_sums.grand_totals import mend_grand_totals, wrong_grand_totals
from usage.upkeep.label_sums.month_check import mend_months
from usage.upkeep.sum_mending.group_differences import add_groups

MOST_AT_ONCE = 20_000  # differences of one day or month are in memory at once: a month has sums of many end users

# The labels of a row, as `usage.sums.labels.label_rollup.labels_of` finds them: of tags with one name the first.
_LABELS = f"""
    SELECT '' AS label, '' AS value UNION ALL SELECT '{END_USER}', end_user WHERE end_user <> ''
    UNION ALL (
        SELECT DISTINCT ON (name) '{TAG}' || name, value
        FROM (SELECT split_part(tag, '=', 1) AS name, number,
                     {VALUE_OF_TAG} AS value
              FROM unnest(tags) WITH ORDINALITY AS one (tag, number)) AS named
        ORDER BY name, number
    )
"""
# Adds up rows by label and day, and these by month. The parameters are two request ids: the first, and the end.
_SUMS_OF_ROWS = f"""
    SELECT span, label, CASE span WHEN 'day' THEN day ELSE date_trunc('month', day)::date END AS start, value,
           {", ".join((*GROUP_COLUMNS, *SUMS))}
    FROM (SELECT {DAY} AS day, label, value, key_name, team, owner, {SUMMED_MODEL_SQL} AS model, route,
                 {", ".join(f"{expression} AS {name}" for name, expression in ROW_SUMS.items())}
          FROM usage_request, LATERAL ({_LABELS}) AS labels
          WHERE request_id >= %s AND request_id < %s GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) AS days,
         LATERAL (VALUES ('day'), ('month')) AS spans (span)
"""
# The sums of rows, and the stored sums. The parameters: two request ids, and the first day of the sums.
_COMPARED = f"""
    WITH a AS ({counted_groups(_SUMS_OF_ROWS)}), b AS (SELECT * FROM {TABLE} WHERE start >= %s)
"""
_DIFFERING = f"""
    FROM a FULL JOIN b USING ({", ".join(KEYS)})
    WHERE start >= %s AND ({" OR ".join(map(DIFFERS.format, SUMS))}) ORDER BY start, span LIMIT %s
"""
_DIFFERENCES = ", ".join(f"COALESCE(a.{name}, 0) - COALESCE(b.{name}, 0)" for name in SUMS)
# What the sums of one day or month lack. The parameters: two request ids, two times the span and the first day, and how
# many groups to return.
_MISSING = f"""
    WITH a AS ({counted_groups(f"SELECT * FROM ({_SUMS_OF_ROWS}) AS found WHERE span = %s AND start = %s")}),
         b AS (SELECT * FROM {TABLE} WHERE span = %s AND start = %s)
    SELECT {", ".join(KEYS)}, {_DIFFERENCES} FROM a FULL JOIN b USING ({", ".join(KEYS)})
    WHERE {" OR ".join(map(DIFFERS.format, SUMS))} ORDER BY {", ".join(KEYS)} LIMIT %s
"""


def wrong_labels(since: datetime | None) -> Iterator[str]:
    """Compares the sums by label (end user or tag) with the rows of calls; yields a sentence about each wrong sum.

    At most 100 sentences are yielded. Only days and months that begin at `since` or later are compared; all if it is
    None.
    """
    for group in _differing(", ".join(KEYS), since, 100):
        yield f"{TABLE} is not the sum of its rows for {' / '.join(map(str, group))}".replace(OTHERS, "(others)")


def rebuild_labels(now: datetime) -> int:
    """Corrects the sums by label (end user, tag) of days and months; returns how many days and months were wrong.

    The caller must hold the lock `usage.upkeep.sum_mending.SUMMING`. At the end, only the costliest values of a label
    keep sums of their own (`fold_labels`).

    A day whose rows may have been deleted stays as it is. The sums of a month whose rows may have been deleted become
    those of its days, and the month is not counted in the result. Values that are added up as `OTHERS` are not
    separated again. The grand totals of each label become the sums of its values.

    Raises:
        django.db.Error: the database has failed; earlier corrections are kept.
    """
    wrong = [Period(*found) for found in _differing("DISTINCT span, start", comparable_since(), None)]
    for period in wrong:
        is_more_missing = True
        while is_more_missing:
            missing = _missing(period)
            add_groups(ADD_LABELS, missing)  # to the rows in which they are counted by then
            is_more_missing = len(missing) == MOST_AT_ONCE
    if since := comparable_since():
        mend_months(ceiling(since, Span.MONTH).date())
    if any(wrong_grand_totals(None)):
        mend_grand_totals()
    # The new sums name everybody, however old they are.
    fold_labels(now, min((period.start for period in wrong), default=date.max))
    return len(wrong)


def _missing(period: Period) -> list[Group]:
    """Returns the amounts to add to the sums by label of a day or month, so that they agree with its rows of calls.

    There is one group of amounts for each wrong sum, at most `MOST_AT_ONCE`; none if rows of the day or month may have
    been deleted.
    """
    with one_snapshot_of_rows(), adding_cursor() as cursor:
        since = comparable_since()
        if since and datetime.combine(period.start, time(), UTC) < since:
            return []
        cursor.execute(_MISSING, [*period.ids, *period, *period, MOST_AT_ONCE])
        return [dict(zip((*KEYS, *SUMS), row, strict=True)) for row in cursor]


def _differing(wanted: str, since: datetime | None, most: int | None) -> list[tuple[Any, ...]]:
    """Compares the sums by label (end user, tag) of each day and month with the rows of calls; returns the wrong sums.

    * `wanted`: the SQL of the columns to return of each wrong sum.
    * `since`: only days and months that begin at this time or later are compared; None compares all.
    * `most`: the highest number of wrong sums to return; None returns all.
    """
    first = ceiling(since, Span.DAY).date() if since else date.min
    with adding_cursor() as cursor:
        values: list[Any] = [first_row(since), UUID(int=2**128 - 1), first, first, most]
        cursor.execute(f"{_COMPARED} SELECT {wanted} {_DIFFERING}", values)
        return list(cursor.fetchall())
