"""The histograms of old hours are emptied; totals keep theirs, and `ledger verify` and `ledger sum` know of it."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger.equal_sums import clock_at
from tests.support.ledger.ledgers import NOON, call
from usage.journal_shipping.rows import write_rows
from usage.models import LedgerState, UsageBreakdown, UsageHour, UsageTotal
from usage.sums.ranges import CUSTOM, TimeRange
from usage.sums.report_reader import read_report
from usage.sums.sum_tables import DURATIONS, HISTOGRAMS
from usage.upkeep.old_histograms import HISTOGRAMS_KEPT, MOST_DAYS, empty_old_histograms
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.retention import prune
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
OLD_DAYS = 5
NOW = NOON + HISTOGRAMS_KEPT + OLD_DAYS * DAY


@pytest.fixture(autouse=True)
def _old_ledger() -> None:
    """Writes two calls on each of five days whose histograms are too old, after a gap, and on the day after them."""
    LedgerState.load()
    for day in (-100, *range(1, OLD_DAYS), OLD_DAYS):
        write_rows([call(NOON + day * DAY), call(NOON + day * DAY, key_name="other", duration_ms=50.0)])


def empty(**options: Any) -> int:
    return empty_old_histograms(NOW, threading.Event(), **options)


def days_with_histograms() -> set[int]:
    return {(hour.hour - NOON).days for hour in UsageHour.objects.all() if hour.durations}


def histograms() -> dict[Any, Any]:
    names = [f"{name}_histogram" for name in HISTOGRAMS]
    return {total.pk: [getattr(total, name) for name in (*names, DURATIONS)]
            for total in UsageTotal.objects.exclude(span="minute")}  # fmt: skip


def faults() -> list[str]:
    with clock_at(NOW):
        return list(find_faults(Path("/nonexistent")))


def test_it_works() -> None:
    before = histograms()
    assert empty() == MOST_DAYS
    assert days_with_histograms() == {3, 4, 5}
    assert empty() == OLD_DAYS - MOST_DAYS
    assert days_with_histograms() == {5}
    assert empty() == 0
    assert histograms() == before
    assert faults() == []


def test_pruning_empties_them(settings: Any) -> None:
    settings.RETENTION_DAYS = settings.BODY_RETENTION_DAYS = 0
    prune(NOW)
    assert days_with_histograms() == {3, 4, 5}
    prune(NOW, all_at_once=True)
    assert days_with_histograms() == {5}


def test_nothing_goes_on_once_it_is_to_stop() -> None:
    stopping = threading.Event()
    stopping.set()
    assert empty_old_histograms(NOW, stopping) == 0
    assert days_with_histograms() == {-100, 1, 2, 3, 4, 5}


def test_sums_made_anew_keep_the_histograms_of_totals() -> None:
    empty(all_at_once=True)
    before = histograms()
    write_rows([call(NOON + DAY)])  # as a journal may be shipped late
    UsageTotal.objects.update(calls=9)
    UsageHour.objects.filter(hour=NOON + OLD_DAYS * DAY).update(durations=[0, 7])
    with clock_at(NOW):
        assert rebuild_totals(NOW) == 1
    assert faults() == []
    assert {key: found for key, found in histograms().items() if key[2] >= NOON + 2 * DAY} == {
        key: found for key, found in before.items() if key[2] >= NOON + 2 * DAY
    }
    assert UsageTotal.objects.get(span="hour", dimension="all", start=NOON + DAY).calls == 3


def test_totals_of_an_older_version_get_theirs_before() -> None:
    """It has added up the durations of all calls and of keys' days only, the latter in the other column."""
    before = histograms()
    old = UsageTotal.objects.filter(start__lt=NOON + 3 * DAY)
    old.exclude(dimension="all").update(durations=[])
    empty(all_at_once=True)
    assert histograms() == before
    assert faults() == []


@pytest.mark.parametrize("days", [-2, 2])
def test_a_clock_that_was_ahead_empties_little_more_and_leaves_no_faults(days: int) -> None:
    LedgerState.objects.update(histograms_emptied_before=NOW + days * DAY)
    empty()
    assert 5 in days_with_histograms()
    assert faults() == []


def test_pages_read_all_calls_of_months_that_an_older_version_has_summed() -> None:
    """It has written no breakdowns; pruning adds those of the first days before `ledger sum` adds all."""
    whole = TimeRange(CUSTOM, NOON.replace(day=1, hour=0), NOON + 40 * DAY)
    before = read_report(whole, ("key",))
    UsageBreakdown.objects.all().delete()
    UsageTotal.objects.filter(span="month").delete()
    UsageTotal.objects.exclude(dimension="all").update(durations=[])
    for _ in range(2):
        empty()  # the second time, that of the last days of the first month
        assert UsageBreakdown.objects.exists()
        assert read_report(whole, ("key",)) == before
