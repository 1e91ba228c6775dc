"""Holds in the tables: each call is in exactly one of holds and sums, whatever becomes of its row."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from tests.support.ledger.ledgers import NOON, begin, call, end, leave, ship
from usage.journal_shipping.background_responses import forget_pending
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.rows import write_rows
from usage.journal_shipping.shipper import adopt_dead
from usage.models import Hold, PendingResponse, UsageDay
from usage.money.row_pricing import Pricer
from usage.money.spent_and_reserved import Spent, drop_orphans, spent_by
from usage.upkeep import verify
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

TODAY = NOON.date()
UNFINISHED: dict[str, Any] = {
    "route": "/v1/responses", "response_id": "resp_1", "response_status": "queued", "pollable": True,
    "usage": None, "input_tokens": None, "cached_tokens": None, "output_tokens": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 5, "sk-any"  # the gateway asks about responses
    monkeypatch.setattr(verify, "SHIPPING_SECONDS", 0.0)


def hold(row: dict[str, Any], dollars: str = "1", **columns: Any) -> Hold:
    columns = {"key_name": row["key_name"], "day": TODAY, **columns}
    return Hold.objects.create(pk=UUID(row["request_id"]), dollars=Decimal(dollars), **columns)


def cost_of_today() -> Decimal:
    return sum((day.cost for day in UsageDay.objects.all()), Decimal(0))


def test_it_works(tmp_path: Path) -> None:
    rows = [
        call(),
        call(),
        call(outcome="rejected", input_tokens=None, cached_tokens=None, output_tokens=None, usage=None),
    ]
    for row in rows:
        hold(row)
    other = hold(call())
    ship(tmp_path, *map(begin, rows), *map(end, rows))
    assert list(Hold.objects.all()) == [other]
    assert cost_of_today() == 2 * Decimal("0.000435")
    assert list(find_faults(tmp_path)) == []


def test_a_guess_and_the_real_end_settle_once(tmp_path: Path) -> None:
    hold(row := call())
    ship(tmp_path, begin(row))
    assert Hold.objects.count() == 0
    assert 0 < cost_of_today() < Decimal("0.000435")  # its input
    ship(tmp_path, end(row))
    assert Hold.objects.count() == 0
    assert cost_of_today() == Decimal("0.000435")


def test_a_stub_settles(tmp_path: Path) -> None:
    hold(row := call(input_tokens=-1))
    ship(tmp_path, end(row))
    assert Hold.objects.count() == 0
    assert list(find_faults(tmp_path)) == []


def test_a_row_that_was_there_before_settles() -> None:
    row = call()
    write_rows(Pricer().priced([row]))
    hold(row)
    write_rows(Pricer().priced([row]))
    assert Hold.objects.count() == 0
    assert cost_of_today() == Decimal("0.000435")


def test_an_unfinished_response_is_held_until_its_usage_is_counted(tmp_path: Path) -> None:
    made = call(**UNFINISHED)
    hold(made)
    ship(tmp_path, end(made))
    ship(tmp_path, end(made))
    assert Hold.objects.count() == PendingResponse.objects.count() == 1
    assert list(find_faults(tmp_path)) == []
    assert drop_orphans(timezone.now() + timedelta(days=29)) == 0

    ship(tmp_path, end(call(route="/v1/responses", response_id="resp_1", response_status="completed")))
    assert Hold.objects.count() == PendingResponse.objects.count() == 0
    assert cost_of_today() == Decimal("0.000435")


def test_a_response_that_will_never_be_counted_gives_its_hold_back(tmp_path: Path) -> None:
    made = call(**UNFINISHED)
    hold(made)
    ship(tmp_path, end(made))
    forget_pending(PendingResponse.objects.get())
    assert Hold.objects.count() == PendingResponse.objects.count() == 0


def test_orphans_are_dropped_when_no_row_can_come(settings: Any) -> None:
    settings.REQUEST_TIMEOUT = 900
    hold(call())
    now = timezone.now()
    assert drop_orphans(now + timedelta(minutes=74)) == 0
    assert drop_orphans(now + timedelta(minutes=76)) == 1


def test_a_hold_beside_its_row_is_noticed_and_dropped(tmp_path: Path) -> None:
    ship(tmp_path, end(row := call()))
    hold(row)
    assert list(find_faults(tmp_path)) == [
        f"money is still held for call {row['request_id']}, whose row is in the table"
    ]
    assert drop_orphans() == 1
    assert list(find_faults(tmp_path)) == []


def test_a_hold_whose_end_is_in_the_journal_stays(tmp_path: Path) -> None:
    hold(row := call())
    path = leave(tmp_path, begin(row), end(row))
    assert drop_orphans() == 0
    adopt_dead(tmp_path, Delivery(tmp_path))
    assert not path.exists()
    assert Hold.objects.count() == 0


def test_spending_of_many_keys_is_one_query(django_assert_num_queries: Any) -> None:
    def day(key_name: str, on: date, cost: str) -> None:
        counts = {"calls": 1, "unpriced_calls": 0, "input_tokens": 1, "output_tokens": 1}
        UsageDay.objects.create(day=on, key_name=key_name, cost=Decimal(cost), **counts)

    day("a", TODAY, "1")
    day("a", date(2026, 11, 30), "2")
    day("a", date(2026, 10, 31), "4")
    day("b", date(2025, 11, 1), "8")
    hold(call(key_name="a"), "16")
    hold(call(key_name="a"), "32", day=date(2026, 10, 31), writer="a worker")  # a lease, for the calls of that day
    hold(call(key_name="a"), "64", day=date(2026, 10, 31))  # a response that goes on, and may be counted today
    with django_assert_num_queries(1):
        found = spent_by("key", ["a", "b", "c"], TODAY)
    assert found["a"] == Spent(Decimal(81), Decimal(83), Decimal(119), Decimal(112))
    assert found["b"] == Spent(total=Decimal(8))
    assert found["c"] == Spent()
