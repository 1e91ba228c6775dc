"""Old rows and histograms that are deleted while sums are mended leave every sum as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, SUMS, call
from tests.support.ledger.months import months
from tests.support.other_connection import elsewhere
from usage.database import partitions as partitions_module
from usage.database import time_limits
from usage.database.partitions import is_locked
from usage.journal_shipping.rows import write_rows
from usage.models import LabelTotal, LedgerState, Request, UsageHour
from usage.sums import pruned_calls, totals_rollup
from usage.sums.totals_reader import next_month
from usage.upkeep import rebuild_totals as rebuilding
from usage.upkeep.label_sums import folding, label_check
from usage.upkeep.months import month_of
from usage.upkeep.old_histograms import HISTOGRAMS_KEPT, empty_old_histograms
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.retention import prune
from usage.upkeep.sum_mending import group_differences

pytestmark = pytest.mark.django_db(transaction=True)

THIS_MONTH = month_of(NOON)
OLD_MONTH = month_of(THIS_MONTH - timedelta(days=1))


@pytest.fixture(autouse=True)
def _ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writes a failed call in each of two months; the older month may be dropped ten days after `NOON`."""
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 10, 0
    monkeypatch.setattr(partitions_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 300)
    with months(OLD_MONTH, THIS_MONTH, next_month(NOON)):
        LedgerState.load()
        columns = {"team": "red", "tags": ["a"], "outcome": "timeout", "cost": "1.5", "cost_kind": "exact", "price": {}}
        write_rows([call(moment, **columns) for moment in (OLD_MONTH + timedelta(days=3), NOON)])
        yield


def is_refused(action: Callable[[], object]) -> bool:
    """Runs `action`; returns whether it fails because of a lock."""
    try:
        action()
    except OperationalError as error:
        return is_locked(error)
    return False


def sums() -> dict[Any, Any]:
    """All sums except totals of minutes, which `prune` deletes: calls, dollars and durations, by table and group."""
    names = ("calls", "cost", "durations", "duration_ms_histogram")
    return {
        (model.__name__, row.pk): [getattr(row, name, None) for name in names]
        for model in SUMS
        for row in model.objects.all()
        if getattr(row, "span", None) != "minute"
    }


@pytest.mark.parametrize("number", range(5))
def test_no_month_is_dropped_between_the_reading_of_its_mark_and_of_its_rows(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is read in five places, of which `number` is one: hours, days of teams, minutes, failures, labels."""
    tries: list[bool] = []
    snapshots = 0

    def read_mark() -> Any:
        nonlocal snapshots
        mark = pruned_calls.comparable_since()
        if connection.in_atomic_block:
            if snapshots == number:
                elsewhere(lambda: tries.append(is_refused(lambda: prune(NOON + timedelta(days=11)))))
            snapshots += 1
        return mark

    right = sums()
    for module in (rebuilding, label_check):
        monkeypatch.setattr(module, "comparable_since", read_mark)
    monkeypatch.setattr(rebuilding, "_wrong_hours", lambda: {UsageHour.objects.earliest("hour").hour})
    monkeypatch.setattr(label_check, "_differing", lambda *_: [("day", OLD_MONTH.date() + timedelta(days=3))])
    rebuild_totals(NOON)
    assert sums() == right
    assert tries == [True]
    prune(NOON + timedelta(days=11))
    assert Request.objects.count() == 1
    rebuild_totals(NOON)
    assert sums() == right


@pytest.mark.parametrize("reading", [1, 3])
def test_histograms_that_are_emptied_meanwhile_are_not_subtracted(
    reading: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there are histograms is read for the sums of hours, then for 1 October, then for 4 October."""
    readings = 0

    def read_mark() -> Any:
        nonlocal readings
        mark = pruned_calls.histograms_since()
        readings += 1
        if readings == reading:
            now = NOON + HISTOGRAMS_KEPT + timedelta(days=1)
            elsewhere(lambda: empty_old_histograms(now, threading.Event(), all_at_once=True))
        return mark

    monkeypatch.setattr(rebuilding, "histograms_since", read_mark)
    hour = UsageHour.objects.filter(hour__gte=THIS_MONTH)
    monkeypatch.setattr(rebuilding, "_wrong_hours", lambda: {row.hour for row in hour})
    right = sums()
    hour.update(cost=7)
    rebuild_totals(NOON)
    assert {group: found for group, found in sums().items() if found != right[group]} == {
        ("UsageHour", row.pk): [1, right["UsageHour", row.pk][1], [], []] for row in UsageHour.objects.all()
    }


def test_no_names_are_folded_while_a_step_decides_in_which_rows_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folding, "MOST_VALUES", 0)
    tries: list[bool] = []
    as_json = totals_rollup.as_json

    def fold_and_go_on(groups: Any) -> str:
        if "label" in groups[0]:
            elsewhere(lambda: tries.append(is_refused(lambda: folding.fold_labels(NOON + timedelta(days=3)))))
        return as_json(groups)

    monkeypatch.setattr(group_differences, "as_json", fold_and_go_on)
    LabelTotal.objects.filter(span="day", start=NOON.date(), label="tag:a").update(cost=7)
    rebuild_totals(NOON)
    assert tries == [True]
