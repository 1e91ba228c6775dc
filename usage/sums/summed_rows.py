"""Fetches rows of calls with the columns that go into the sums, after a statement that returns `SUMMED_SQL`."""

from __future__ import annotations

from typing import cast

from django.db.backends.utils import CursorWrapper

from usage.call_record import SummedRow
from usage.sums.tables import SUMMED_NAMES


def fetch_summed_rows(cursor: CursorWrapper) -> list[SummedRow]:
    """Fetches all rows that the cursor's last statement has returned, as dictionaries with the keys `SUMMED_NAMES`."""
    return [cast(SummedRow, dict(zip(SUMMED_NAMES, values, strict=True))) for values in cursor.fetchall()]
