"""Compares the grand totals of each label with the sums by label that they add up, and corrects wrong ones.

Triggers of the table of sums by label write them, so they are wrong only if these were switched off, or if somebody has
changed them by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from usage.models import Span
from usage.sums.labels.label_tables import GRAND_TOTALS, SUMS, TABLE
from usage.sums.totals_reader import ceiling
from usage.upkeep.differing_sums import ADDS_IN_MEMORY, DIFFERS, adding_cursor, without_writers

_KEYS = ("span", "label", "start")
_NAMES = ", ".join(_KEYS)
# The grand totals that differ, from a first day on. One that is missing on one side counts as zeros.
_COMPARED = f"""
    WITH a AS (SELECT {_NAMES}, {", ".join(f"sum({name}) AS {name}" for name in SUMS)} FROM {TABLE}
               WHERE start >= %(first)s GROUP BY {_NAMES}),
         b AS (SELECT * FROM {GRAND_TOTALS} WHERE start >= %(first)s)
    SELECT {{}} FROM a FULL JOIN b USING ({_NAMES}) WHERE {" OR ".join(map(DIFFERS.format, SUMS))}
"""
_MEND = f"""
    INSERT INTO {GRAND_TOTALS} ({_NAMES}, {", ".join(SUMS)})
    {_COMPARED.format(f"{_NAMES}, {', '.join(f'COALESCE(a.{name}, 0)' for name in SUMS)}")}
    ON CONFLICT ({_NAMES}) DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in SUMS)}
"""


def wrong_grand_totals(since: datetime | None) -> Iterator[str]:
    """Compares the grand totals with the sums by label (end user or tag); yields a sentence about each wrong one.

    At most 100 sentences are yielded. Only days and months that begin at `since` or later are compared; all if it is
    None.
    """
    first = ceiling(since, Span.DAY).date() if since else date.min
    with adding_cursor() as cursor:
        cursor.execute(f"{_COMPARED.format(_NAMES)} ORDER BY start, span, label LIMIT 100", {"first": first})
        for span, label, start in cursor.fetchall():
            yield f"{GRAND_TOTALS} is not the sum of its values for {span} / {label} / {start}"


def mend_grand_totals() -> None:
    """Corrects all grand totals by the sums by label that they add up. Writers of sums wait until this is done."""
    with without_writers() as cursor:
        cursor.execute(ADDS_IN_MEMORY)
        cursor.execute(_MEND, {"first": date.min})
