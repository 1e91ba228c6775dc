"""The highest figures of each day: what the log pages show, without a look at the sums of all hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.ledger.ledgers import NOON, call
from usage.journal_shipping.rows import write_rows
from usage.models import UsageHour, UsagePeak
from usage.money.row_pricing import Pricer
from usage.page_data.newest_calls import read_counters
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

COUNTERS = {
    **{"requests": 4, "errors": 1, "total_ms": 1100.0, "average_ms": 275.0, "max_ms": 900.0},
    **{"max_prompt_tokens": 5000, "max_cached_tokens": 300, "max_completion_tokens": 700},
}


@pytest.fixture(autouse=True)
def _calls() -> None:
    """Calls of two days, in two batches; the highest figures are those of different calls."""
    day_later = NOON + timedelta(days=1)
    batches = [
        [call(duration_ms=50.0, input_tokens=5000), call(day_later, duration_ms=50.0, output_tokens=700)],
        [call(duration_ms=900.0, cached_tokens=300), call(day_later, duration_ms=100.0, outcome="timeout")],
    ]
    for batch in batches:
        write_rows(Pricer().priced(batch))


def test_the_counters_of_all_calls_need_no_sums_of_hours() -> None:
    assert read_counters() == COUNTERS
    UsageHour.objects.all().delete()
    assert read_counters() == COUNTERS


@pytest.mark.parametrize("figure", [None, 1, 10_000], ids=["missing", "too low", "too high"])
def test_peaks_that_are_wrong_are_found_and_mended(figure: int | None) -> None:
    """Older code, which does not know of peaks, may have written the calls."""
    right = list(UsagePeak.objects.order_by("day").values())
    wrong = UsagePeak.objects.filter(day=NOON.date())
    if figure is None:
        wrong.delete()
    else:
        wrong.update(max_input_tokens=figure)
    said = "usage_usagepeak has not the highest figures of 2026-11-01"
    assert list(find_faults(Path("/nonexistent"))) == [said]
    assert list(find_faults(Path("/nonexistent"), since=datetime(2026, 11, 2, tzinfo=UTC))) == []

    rebuild_totals(NOON + timedelta(days=3))

    assert list(UsagePeak.objects.order_by("day").values()) == right
    assert list(find_faults(Path("/nonexistent"))) == []
