"""The highest figures of each day: what the log pages show, without a look at the sums of all hours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.ledger.ledgers import NOON, call
from usage.journal_shipping.rows import write_rows
from usage.models import UsageHour, UsagePeak
from usage.money.row_pricing import Pricer
from usage.page_data.newest_calls import read_counters
from usage.upkeep.rebuild_totals import rebuild_totals

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


def test_peaks_that_are_missing_or_too_low_are_mended() -> None:
    """Older code, which does not know of peaks, may have written the calls."""
    right = list(UsagePeak.objects.order_by("day").values())
    UsagePeak.objects.filter(day=NOON).delete()
    UsagePeak.objects.update(max_duration_ms=1, max_input_tokens=2)

    rebuild_totals(NOON + timedelta(days=3))

    assert list(UsagePeak.objects.order_by("day").values()) == right
