"""Sums by all labels of days whose rows were replaced, or differ from the totals: not read, and not tried for ever."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db.models import F

from tests.support.ledger.ledgers import Row, call, random_call
from usage.call_record import STUB_CODE
from usage.journal_shipping.rows import write_rows
from usage.models import Dimension, LabelCombination, Span, UsageTotal
from usage.money.row_pricing import Pricer
from usage.sums.labels import combined_reader
from usage.sums.labels.combined_reader import ids_of_days
from usage.sums.labels.label_reader import read_label_report
from usage.upkeep.label_sums import combining
from usage.upkeep.label_sums.combining import combine_labels, wrong_combinations

pytestmark = pytest.mark.django_db

FIRST, END = date(2026, 11, 1), date(2026, 11, 12)
NOW = datetime(2026, 11, 12, 9, tzinfo=UTC)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "LEAST_CALLS", 0)


def write(*rows: Any) -> None:
    write_rows(Pricer().priced(rows))


def write_random() -> None:
    chance = random.Random(5)
    start = datetime(2026, 11, 1, tzinfo=UTC)
    write(*(random_call(chance, start + timedelta(minutes=chance.randrange(11 * 24 * 60))) for _ in range(50)))


def calls_of(end_user: str, project: str) -> int:
    """The calls of an end user for a project, as a report by both says."""
    rows = read_label_report(FIRST, END, ("end_user", "tag:project"), most=10_000).rows
    return sum(row.calls for row in rows if row.group == (end_user, project))


def replaced_row() -> tuple[Row, Row]:
    """The row of a call with labels, and a stub of it: the same numbers, without labels."""
    row = call(NOON, end_user="whole", tags=["project=x"])
    return row, {**row, "end_user": "", "tags": [], "error_code": STUB_CODE}


def test_the_labels_of_a_replaced_row_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers may be those of the stub before, so the totals of the day do not tell that it has changed."""
    write_random()
    row, stub = replaced_row()
    write(stub)
    combine_labels(now=NOW)
    write(row)
    assert calls_of("whole", "x") == 1
    assert combine_labels(now=NOW) == 2  # the day and the month
    assert combine_labels(now=NOW) == 0
    monkeypatch.setattr(combined_reader, "MOST_DAYS_OF_ROWS", 0)
    assert calls_of("whole", "x") == 1


def test_a_row_that_is_replaced_while_its_day_is_added_up_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    row, stub = replaced_row()
    write(stub)

    def replace_and_return_ids(first: date, end: date) -> tuple[UUID, UUID]:
        if first == NOON.date():
            write(row)
        return ids_of_days(first, end)

    with monkeypatch.context() as patched:
        patched.setattr(combining, "ids_of_days", replace_and_return_ids)
        combine_labels(now=NOW)
    assert not LabelCombination.objects.filter(period__first=NOON.date()).exists()
    assert combine_labels(now=NOW) == 2  # the day and the month
    assert LabelCombination.objects.get(period__first=NOON.date()).end_user == "whole"


def test_days_that_are_not_the_sums_of_their_rows_are_added_up_once() -> None:
    write_random()
    day = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL, start__date=NOON.date())
    day.update(calls=F("calls") + 1)
    assert combine_labels(now=NOW) > 2
    assert combine_labels(now=NOW) == 0
    assert list(wrong_combinations(None)) == [
        f"usage_labelperiod has no sums by all labels from {days}: rows and totals of days differ"
        for days in ("2026-11-01 to 2026-11-11", "2026-11-10 to 2026-11-10")
    ]
    assert not LabelCombination.objects.filter(period__first=NOON.date()).exists()
    day.update(calls=F("calls") - 1)
    assert combine_labels(now=NOW) == 2  # the day and the month
    assert list(wrong_combinations(None)) == []
