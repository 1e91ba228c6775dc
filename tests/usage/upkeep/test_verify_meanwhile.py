"""`ledger verify` finds no fault in a ledger that is whole, whatever is written, pruned and emptied while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, call
from tests.support.ledger.months import months
from tests.support.other_connection import elsewhere
from usage.database import partitions as partitions_module
from usage.database import time_limits
from usage.database.partitions import is_locked
from usage.journal_shipping.rows import write_rows
from usage.models import LedgerState, Request, UsageDay
from usage.sums import pruned_calls
from usage.sums.totals_reader import next_month
from usage.upkeep import verify
from usage.upkeep.months import month_of
from usage.upkeep.old_histograms import HISTOGRAMS_KEPT, empty_old_histograms
from usage.upkeep.retention import prune
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db(transaction=True)

THIS_MONTH = month_of(NOON)
OLD_CALL = month_of(THIS_MONTH - timedelta(days=1)) + timedelta(days=3)
LATER = NOON + timedelta(days=11)


@pytest.fixture(autouse=True)
def _ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writes a failed call in each of two months; the older month may be dropped ten days after `NOON`."""
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 10, 0
    monkeypatch.setattr(partitions_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 300)
    with months(month_of(OLD_CALL), THIS_MONTH, next_month(NOON)):
        LedgerState.load()
        write(2)
        yield


def write(number: int) -> None:
    columns = {"team": "red", "tags": ["a"], "outcome": "timeout", "cost": "1.5", "cost_kind": "exact", "price": {}}
    write_rows([call(moment, **columns) for moment in (OLD_CALL, NOON)[:number]])


def empty_histograms() -> None:
    empty_old_histograms(NOON + HISTOGRAMS_KEPT + timedelta(days=1), threading.Event(), all_at_once=True)


@pytest.mark.parametrize("change", [lambda: prune(LATER), empty_histograms, lambda: write(2)])
def test_what_changes_while_it_runs_is_no_fault(tmp_path: Path, change: Callable[[], object]) -> None:
    """`progress` is called before each check."""
    checks: list[str] = []

    def progress(check: str) -> None:
        checks.append(check)
        if len(checks) == 2:  # the rows are checked, the sums are not
            elsewhere(change)

    assert list(find_faults(tmp_path, progress=progress)) == []
    assert len(checks) > 10


def test_no_month_is_dropped_between_the_reading_of_the_mark_and_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []

    def pruning_is_refused() -> None:
        try:
            prune(LATER)
        except OperationalError as error:
            tries.append(is_locked(error))
        else:
            tries.append(False)

    def read_mark() -> object:
        mark = pruned_calls.comparable_since()
        if not tries:
            assert connection.in_atomic_block
            elsewhere(pruning_is_refused)
        return mark

    monkeypatch.setattr(verify, "comparable_since", read_mark)
    assert list(find_faults(tmp_path)) == []
    assert (tries, Request.objects.count()) == ([True], 2)


def test_a_fault_of_rows_that_are_kept_is_found_although_others_are_pruned_meanwhile(tmp_path: Path) -> None:
    UsageDay.objects.filter(day=NOON.date()).update(calls=7)
    # The first two days after the oldest row that is kept cannot be compared.
    write_rows([call(NOON + timedelta(days=3))])
    UsageDay.objects.filter(day=(NOON + timedelta(days=3)).date()).update(calls=8)

    def progress(check: str) -> None:
        if check.startswith("sums of days"):
            elsewhere(lambda: prune(LATER))

    [fault] = find_faults(tmp_path, progress=progress)
    assert fault == f"usage_usageday is not the sum of its rows for {(NOON + timedelta(days=3)).date()} / default"
