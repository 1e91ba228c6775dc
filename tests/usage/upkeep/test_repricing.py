"""`ledger reprice`: dollars follow the prices, sums follow the dollars, and the ledger stays provable."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, assert_sums_are_right, begin, call, end, random_call, ship, stored
from usage.live import worker_files
from usage.live.worker_files import read_worker_reports
from usage.metric_counters import WorkerCounters
from usage.models import ModelPrice, Request, UsageDay, UsageHour
from usage.upkeep import repricing
from usage.upkeep.repricing import reprice

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)


def custom_price(model: str, dollars: str, **columns: Any) -> None:
    ModelPrice.objects.create(model=model, valid_from=LONG_AGO, input=dollars, output=dollars, **columns)


def cost_of(*rows: dict[str, Any]) -> list[Decimal | None]:
    return [request.cost for request in stored(*(row["request_id"] for row in rows))]


def test_it_works(tmp_path: Path) -> None:
    unknown, known = call(response_model="ours"), call()
    ship(tmp_path, end(unknown), end(known))
    (none, published) = cost_of(unknown, known)
    assert none is None
    custom_price("ours", "2")
    custom_price("gpt-4o-mini*", "4")
    assert reprice(NOON, unpriced_only=True) == 1
    assert cost_of(unknown, known) == [Decimal("0.003"), published]  # 1,500 tokens at two dollars a million
    assert UsageHour.objects.get(model="ours").unpriced_calls == 0
    assert stored(unknown["request_id"])[0].price
    assert_sums_are_right()

    assert reprice(NOON, unpriced_only=False) == 1
    assert cost_of(unknown, known) == [Decimal("0.003"), Decimal("0.006")]
    assert UsageDay.objects.get().cost == Decimal("0.009")
    assert_sums_are_right()
    assert reprice(NOON, unpriced_only=False) == 0


def test_only_calls_since_the_day_are_touched(tmp_path: Path) -> None:
    before, after = call(NOON - timedelta(milliseconds=1), response_model="ours"), call(response_model="ours")
    ship(tmp_path, end(before), end(after))
    custom_price("ours", "2")
    assert reprice(NOON, unpriced_only=True) == 1
    assert cost_of(before, after) == [None, Decimal("0.003")]


def test_a_price_that_is_gone_takes_the_dollars_along(tmp_path: Path) -> None:
    custom_price("ours", "2")
    row = call(response_model="ours")
    ship(tmp_path, end(row))
    assert cost_of(row) == [Decimal("0.003")]
    ModelPrice.objects.all().delete()
    assert reprice(NOON, unpriced_only=False) == 1
    assert cost_of(row) == [None]
    assert UsageHour.objects.get().unpriced_calls == 1
    assert_sums_are_right()


def test_many_rows_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "BATCH_SIZE", 7)
    chance = random.Random(1)
    ship(tmp_path, *(end(random_call(chance, NOON + timedelta(minutes=number))) for number in range(200)))
    unpriced = Request.objects.filter(cost=None).count()
    custom_price("*", "1")
    changed = reprice(NOON, unpriced_only=True)
    assert 0 < changed <= unpriced
    assert Request.objects.filter(cost=None).count() == unpriced - changed
    assert_sums_are_right()
    reprice(NOON, unpriced_only=False)
    assert_sums_are_right()


def test_a_failure_in_the_middle_leaves_rows_and_sums_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "BATCH_SIZE", 2)
    ship(tmp_path, *(end(call(response_model="ours")) for _ in range(5)))
    custom_price("ours", "2")
    real, left = repricing._apply, [2]

    def fail_at_the_third(*arguments: Any) -> Any:
        changed = real(*arguments)
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError
        return changed

    monkeypatch.setattr(repricing, "_apply", fail_at_the_third)
    with pytest.raises(RuntimeError):
        reprice(NOON, unpriced_only=True)
    assert Request.objects.filter(cost=None).count() == 1
    assert_sums_are_right()


def test_calls_without_counts_are_not_counted(tmp_path: Path) -> None:
    row = call(request_bytes=0)  # so that nothing can be estimated
    ship(tmp_path, begin(row))
    custom_price("*", "1")
    assert reprice(NOON, unpriced_only=False) == 0
    assert cost_of(row) == [0]
    Request.objects.update(cost=None, cost_kind="", price=None)  # as code of before has left it
    assert reprice(NOON, unpriced_only=True) == 1
    assert Request.objects.get().price["source"] == "not counted"  # type: ignore[index]  # it has a price


@pytest.mark.parametrize(
    ("columns", "note", "source"),
    [
        ({"route": "/v1/batches"}, "Upstream does not bill this route.", "not counted"),
        ({"route": "/v1/files"}, "Upstream does not bill this route.", "not billed"),
        ({"route": "/v1/responses", "outcome": "timeout"}, "Upstream did not do the work.", "not billed"),
    ],
)
def test_a_call_that_older_code_took_to_be_free_is_judged_again(
    tmp_path: Path, columns: dict[str, Any], note: str, source: str
) -> None:
    """By its route; whether upstream has done the work is not in the row."""
    unknown: dict[str, Any] = dict.fromkeys(("usage", "input_tokens", "cached_tokens", "output_tokens"))
    row = call(**{**unknown, "usage_source": "unknown", **columns})
    ship(tmp_path, end(row))
    price = {"source": "not billed", "model": "", "tier": "default", "items": [], "note": note}
    Request.objects.update(cost=0, cost_kind="exact", price=price)  # as code of before has left it
    assert reprice(NOON, unpriced_only=False) == int(source == "not counted")
    after = Request.objects.get()
    assert after.cost == 0
    assert after.cost_kind == ("estimated" if source == "not counted" else "exact")
    assert after.price is not None
    assert after.price["source"] == source


def test_a_stored_response_that_counted_before_still_costs_nothing(tmp_path: Path) -> None:
    first = call(route="/openai2", response_id="resp_1")
    again = call(NOON + timedelta(seconds=1), route="/openai2/{id}", method="GET", response_id="resp_1")
    ship(tmp_path, end(first), end(again))
    (cost, nothing) = cost_of(first, again)
    assert cost
    assert nothing == 0
    assert reprice(NOON, unpriced_only=False) == 0
    assert cost_of(first, again) == [cost, 0]
    assert_sums_are_right()


def kind_of(row: dict[str, Any]) -> str:
    return stored(row["request_id"])[0].cost_kind


def test_the_kind_of_a_cost_follows_its_price(tmp_path: Path) -> None:
    exact, estimated, unpriced = call(), call(usage_source="estimated"), call(response_model="ours")
    ship(tmp_path, end(exact), end(estimated), end(unpriced))
    assert [kind_of(row) for row in (exact, estimated, unpriced)] == ["exact", "estimated", ""]
    custom_price("ours", "2")
    assert reprice(NOON, unpriced_only=True) == 1
    assert kind_of(unpriced) == "exact"
    Request.objects.filter(pk=exact["request_id"]).update(cost_kind="")  # as a row that older code has written
    assert reprice(NOON, unpriced_only=False) == 1
    assert kind_of(exact) == "exact"
    assert_sums_are_right()


def test_the_counters_of_metrics_follow(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost less what is taken back is the ledger's, before and after, whatever process has repriced."""
    settings.DATA_DIR = tmp_path
    unknown, known = call(response_model="ours"), call()
    ship(tmp_path, end(unknown), end(known))
    for dollars in ("4", "0.01", "3"):
        ModelPrice.objects.all().delete()
        custom_price("*", dollars)
        command = WorkerCounters()  # each command is a process of its own
        monkeypatch.setattr(repricing, "counters", command)
        monkeypatch.setattr(worker_files, "counters", command)
        before, counted = sum(cost or 0 for cost in cost_of(unknown, known)), counted_dollars()
        call_command("ledger", "reprice", "--since", f"{NOON:%Y-%m-%d}", "--all")
        after = sum(cost or 0 for cost in cost_of(unknown, known))
        assert after != before
        assert counted_dollars() - counted == after - before


def counted_dollars() -> Decimal:
    """What the reports of all processes say the calls have cost."""
    signs = {"cost_dollars": 1, "cost_taken_back_dollars": -1}
    counted = read_worker_reports().counted.dollars
    return sum((signs.get(name, 0) * value for (name, *_), value in counted.items()), Decimal(0))
