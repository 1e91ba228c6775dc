"""Marks days whose rows of calls have changed, so that their sums by all labels together are computed anew.

Whether these sums (`LabelPeriod`) are right is known by their totals (`usage.sums.labels.combined_reader`). That does
not suffice if a row is replaced by one with other labels and the same numbers, since the totals stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from django.db.backends.utils import CursorWrapper

from usage.call_record import SummedRow

# A negative number of calls is never right. Each mark makes another number, so `usage.upkeep.label_sums.combining` sees
# that a row was replaced while it added up. The rows are locked in one order, because several writers may do this.
_MARK = """
    UPDATE usage_labelperiod SET calls = LEAST(calls, 0) - 1 WHERE id IN (
        SELECT id FROM usage_labelperiod AS period
        WHERE EXISTS (SELECT FROM unnest(%s::date[]) AS day WHERE day >= period.first AND day < period.until)
        ORDER BY id FOR UPDATE
    )
"""


def mark_changed_days(cursor: CursorWrapper, rows: Iterable[SummedRow]) -> None:
    """Marks the combined sums, by all labels together, as wrong for the days and months of the given calls' rows.

    From then on, reports read the rows of these days instead, until the sums have been computed anew. Does nothing if
    there are no rows. Call it in the transaction that changes or deletes these rows.
    """
    if days := {row["started_at"].astimezone(UTC).date() for row in rows}:
        cursor.execute(_MARK, [sorted(days)])
