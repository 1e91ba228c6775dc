"""Sums say how many of their dollars are estimated, and how many are at an assumed price; also after corrections."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client

from tests.support.ledger.ledgers import NOON, Row, assert_sums_are_right, call, end, ship
from tests.support.ledger.pages import DASHBOARD, REQUESTS, pieces_of, text_of, tiles
from usage.journal_shipping.rows import write_rows
from usage.models import Dimension, ModelPrice, Request, UsageDay, UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_reader import read_all, read_key
from usage.sums.ranges import TimeRange
from usage.sums.report_reader import read_report
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.repricing import reprice
from usage.upkeep.retention import prune

pytestmark = pytest.mark.django_db
KINDS = ("exact", "estimated", "provisional")


def of_kind(kind: str, dollars: str, moment: datetime = NOON, **columns: Any) -> Row:
    """A row as pricing leaves it: `dollars` of a kind."""
    source = "estimated" if kind == "estimated" else "exact"
    price = {"source": "a list", "model": "m", "tier": "default", "per_million": {"input": "0.15"}, "items": []}
    return call(moment, usage_source=source, cost=dollars, cost_kind=kind, price=price, **columns)


def parts(sums: Any) -> tuple[Decimal, ...]:
    return sums.cost, sums.estimated_cost, sums.provisional_cost


def every_sum() -> set[tuple[Decimal, ...]]:
    """The dollars that tables, dashboards and the report have of all calls; they should be the same."""
    moment = NOON + timedelta(hours=1)
    time = TimeRange("custom", NOON - timedelta(hours=1), moment)
    total = read_report(time)["total"]
    of_report = tuple(Decimal(str(total[name])) for name in ("cost", "cost_estimated", "cost_provisional"))
    everything = UsageTotal.objects.filter(dimension=Dimension.ALL)
    return {
        *map(parts, (*UsageHour.objects.all(), *UsageDay.objects.all(), *everything)),
        parts(read_all(time, moment).totals),
        parts(read_key("default", time, moment).totals),
        of_report,
    }


def test_it_works() -> None:
    write_rows([of_kind("exact", "40.9"), of_kind("estimated", "0.1"), of_kind("estimated", "0.2")])
    write_rows([of_kind("provisional", "0.5"), of_kind("provisional", "0.00000001")])

    assert every_sum() == {(Decimal("41.70000001"), Decimal("0.3"), Decimal("0.50000001"))}
    assert_sums_are_right()


def test_a_call_without_a_cost_or_from_before_there_were_kinds_is_in_no_part() -> None:
    write_rows([of_kind("estimated", "3") | {"cost_kind": ""}, call(cost=None, price=None)])

    assert every_sum() == {(Decimal(3), Decimal(0), Decimal(0))}
    assert UsageDay.objects.get().unpriced_calls == 1
    assert_sums_are_right()


def test_repricing_moves_dollars_between_the_parts(tmp_path: Path) -> None:
    """The price of a custom model becomes known later; a row that says no kind gets one."""
    ship(tmp_path, end(call(response_model="ours", usage_source="estimated")), end(call(response_model="ours")))
    Request.objects.filter(usage_source="exact").update(cost_kind="")
    assert UsageDay.objects.get().unpriced_calls == 2
    ModelPrice.objects.create(model="ours", valid_from=NOON - timedelta(days=1), input=1, output=2)

    assert reprice(NOON - timedelta(days=1), unpriced_only=True) == 2
    assert every_sum() == {(Decimal("0.004"), Decimal("0.002"), Decimal(0))}
    assert UsageDay.objects.get().unpriced_calls == 0
    assert_sums_are_right()


def test_rebuilt_totals_and_sums_of_pruned_rows_keep_the_parts() -> None:
    chance = random.Random(5)
    rows = [
        of_kind(chance.choice(KINDS), f"0.{chance.randrange(10**8):08}", NOON + timedelta(minutes=minute))
        for minute in range(40)
    ]
    write_rows(rows)
    before = sorted(map(parts, UsageTotal.objects.all()))
    rebuild_totals(NOON + timedelta(hours=2))
    assert sorted(map(parts, UsageTotal.objects.all())) == before
    assert_sums_are_right()

    sums = sorted(map(parts, (*UsageHour.objects.all(), *UsageDay.objects.all())))
    assert prune(NOON + timedelta(days=4000), all_at_once=True).rows == len(rows)
    assert sorted(map(parts, (*UsageHour.objects.all(), *UsageDay.objects.all()))) == sums


@pytest.mark.parametrize(
    ("cost", "estimated", "provisional", "said"),
    [
        ("7", "0", "0", ""),
        ("41.2", "0.3", "0", "of which $0.30 estimated"),
        ("41.2", "0", "2", "of which $2.00 provisional"),
        ("0.9", "0.3", "0.02", "of which $0.3000 estimated and $0.0200 provisional"),
        ("0.002", "0.000034", "0", "of which $0.000034 estimated"),
        ("41.2", "1.25", "0.00004", "of which $1.25 estimated and under $0.01 provisional"),
        ("1234567", "345678", "0.3", "of which $345,678 estimated and under $1 provisional"),
    ],
)
def test_pages_say_it_in_words(cost: str, estimated: str, provisional: str, said: str) -> None:
    """The parts have the decimals of the sum that they are a part of."""
    assert formatting.uncertain(Decimal(cost), Decimal(estimated), Decimal(provisional)) == said


@pytest.mark.parametrize(
    ("cost", "said"),
    [(None, formatting.UNKNOWN), ("0", "$0.00"), ("0.00000016", "under $0.000001"), ("0.00225", "$0.002250"),
     ("0.0201", "$0.020100"), ("1.2154", "$1.215400"), ("1234.5", "$1,234.500000")],
)  # fmt: skip
def test_the_dollars_of_calls_are_aligned_in_a_list(cost: str | None, said: str) -> None:
    assert formatting.call_dollars(None if cost is None else Decimal(cost)) == said


@pytest.mark.parametrize(
    ("cost", "said"),
    [("0", "$0.00"), ("0.00000002", "under $0.000001"), ("0.000001", "$0.000001"), ("0.0201", "$0.0201")],
)
def test_a_sum_that_is_not_zero_does_not_look_so(cost: str, said: str) -> None:
    assert formatting.dollars(Decimal(cost)) == said


def test_the_dashboard_the_list_and_the_export_say_it(admin: Client) -> None:
    now = datetime.now(UTC)
    write_rows([of_kind("exact", "40.9", now), of_kind("estimated", "1.3", now, service_tier="flex")])
    page = admin.get(DASHBOARD).content.decode()

    assert tiles(page)["dollars"].startswith("Cost $42.20 of which $1.30 estimated")
    assert text_of(page).count("$1.30 estimated") == 4  # the tile; the tables of keys, routes and models
    assert text_of(admin.get(REQUESTS).content.decode()).count("$1.300000 estimated") == 1
    text = b"".join(pieces_of(admin.get(f"{REQUESTS}export.csv"))).decode()
    by_kind = {row["cost_kind"]: row for row in csv.DictReader(StringIO(text))}
    assert (by_kind["estimated"]["service_tier"], by_kind["estimated"]["cost"]) == ("flex", "1.30000000")
    names = ("price_source", "price_model", "price_tier")
    assert [by_kind["exact"][name] for name in names] == ["a list", "m", "default"]
    assert orjson.loads(by_kind["exact"]["price_rates"]) == {"input": "0.15"}


def test_the_export_has_the_rates_of_each_model_of_a_call(admin: Client) -> None:
    """The output of a hosted image tool has a rate of its own, which is not that of the call's model."""
    row = of_kind("estimated", "0.2", datetime.now(UTC))
    own = {"unit": "output", "count": 100, "dollars": "0.00006"}
    of_tool = {"unit": "output", "count": 6240, "dollars": "0.19994", "rate": "40", "model": "gpt-image-1"}
    row["price"] |= {"per_million": {"input": "0.15", "output": "0.6"}, "items": [own, of_tool]}
    write_rows([row])
    text = b"".join(pieces_of(admin.get(f"{REQUESTS}export.csv"))).decode()
    [exported] = csv.DictReader(StringIO(text))
    rates = {"input": "0.15", "output": "0.6", "gpt-image-1 output": "40"}
    assert orjson.loads(exported["price_rates"]) == rates


def test_what_needs_a_price_is_said_without_what_upstream_does_not_bill(admin: Client) -> None:
    now = datetime.now(UTC)
    failed = call(now, outcome="upstream_error", status=500, usage=None, usage_source="unknown",
                  input_tokens=None, output_tokens=None, cached_tokens=None)  # fmt: skip
    write_rows(Pricer().priced([call(now), failed]))
    assert "price" not in tiles(admin.get(DASHBOARD).content.decode())["dollars"]
    write_rows(Pricer().priced([call(now, response_model="ours")]))
    assert "1 call needs a price" in tiles(admin.get(DASHBOARD).content.decode())["dollars"]
