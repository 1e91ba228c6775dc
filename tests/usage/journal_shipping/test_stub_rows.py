"""A stub in place of a row that the database refuses costs and counts what its call does."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.support.ledger.ledgers import NOON, SUMS, assert_sums_are_right, call, call_id, end, letters, ship
from tests.support.ledger.poison import POISON
from usage.call_record import CallRecord
from usage.journal_shipping.background_responses import forget_pending
from usage.journal_shipping.stub_rows import bare_stub, least_stub, stub
from usage.models import CountedResponse, Hold, PendingResponse, Request, TeamDay, UsageDay, UsageTotal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("impatient_shipper")]

# What the price itself is computed from, and a time that is none: of these calls no honest price is known.
PRICELESS = {
    "a number that is none", "a fraction of a token", "below zero", "past bigint", "past integer", "no time",
    "no time at all", "a model that is none",
}  # fmt: skip
MORE_POISON: dict[str, dict[str, Any]] = {
    "an id with NUL": {"response_id": "resp_\0"},
    "an agent with NUL": {"user_agent": "curl\0"},
    "a time that is none": {"upstream_ms": "long"},
    "an outcome too long": {"error_type": "x" * 201},
    "a whole number with a point": {"input_tokens": 1000.0, "output_tokens": 500.0, "user_agent": "curl\0"},
    "whole numbers with points": {"input_tokens": 1000.0, "cached_tokens": 200.0},
    "a caller's id too long": {"incoming_request_id": "x" * 129},
}
SOUND_FOR_PRICE = {name: fault for name, fault in {**POISON, **MORE_POISON}.items() if name not in PRICELESS}


def sums() -> list[Any]:
    """All totals, with their histograms."""
    return list(UsageTotal.objects.order_by("span", "dimension", "start", "value").values())


def forget() -> None:
    tables = ", ".join(model._meta.db_table for model in (Request, *SUMS))
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")


@pytest.mark.parametrize("fault", SOUND_FOR_PRICE)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"service_tier": "flex", "request_model": "gpt-5", "response_model": "gpt-5-2025-08-07"},
        {"route": "/v1/responses", "response_id": "resp_1", "response_status": "completed", "stream": True},
        {"method": "GET", "route": "/v1/responses/{id}", "response_id": "resp_1", "response_status": "completed"},
        {"upstream_ms": 700.5, "overhead_ms": 1.25, "status": 200},
    ],
)
def test_it_costs_and_counts_what_its_call_does(tmp_path: Path, fault: str, kind: dict[str, Any]) -> None:
    poison = SOUND_FOR_PRICE[fault]
    sound = call(**kind)
    ship(tmp_path, end(sound))
    expected, cost = sums(), Request.objects.get().cost
    assert letters(tmp_path) == []
    forget()
    CountedResponse.objects.all().delete()

    ship(tmp_path, end({**sound, **poison}))
    stub = Request.objects.get()
    assert stub.error_code == "dead_letter"
    assert stub.cost == cost
    assert cost is not None
    assert UsageDay.objects.get().cost == cost
    if not poison.keys() & {"key_name", "upstream_ms"}:  # what is summed by, or itself, and is lost
        assert sums() == expected
    assert_sums_are_right()
    forget()
    CountedResponse.objects.all().delete()


@pytest.mark.parametrize("fault", sorted(PRICELESS))
def test_what_has_no_honest_price_is_summed_without_one(tmp_path: Path, fault: str) -> None:
    ship(tmp_path, end(call(**POISON[fault])))
    stub = Request.objects.get()
    assert stub.error_code == "dead_letter"
    assert stub.request_model == "gpt-4o-mini"
    assert_sums_are_right()


def test_a_response_counts_once_when_its_first_row_is_a_stub(tmp_path: Path) -> None:
    made = call(route="/v1/responses", response_id="resp_1", error_message="a\0")
    looked = call(method="GET", route="/v1/responses/{id}", response_id="resp_1")
    ship(tmp_path, end(made), end(looked))
    assert [request.cost for request in Request.objects.order_by("cost")] == [Decimal(0), Decimal("0.000435")]
    assert_sums_are_right()


def test_a_stub_of_an_unfinished_response_is_asked_for(tmp_path: Path) -> None:
    ship(
        tmp_path,
        end(
            call(
                route="/v1/responses", response_id="resp_1", response_status="queued", pollable=True, usage=None,
                error_message="a\0",
            )
        ),
    )  # fmt: skip
    assert PendingResponse.objects.get().response_id == "resp_1"


@pytest.mark.parametrize("shortened", [stub, least_stub, bare_stub])
def test_it_is_of_its_team_and_has_its_shares_of_leases(shortened: Callable[[CallRecord], CallRecord]) -> None:
    shares: dict[str, Any] = {
        "lease": {"id": call_id(), "dollars": "0.5"},
        "team_lease": {"id": call_id(), "dollars": "0.25"},
    }
    found = shortened(call(team="search", owner="o" * 201, **shares))
    assert {name: found.get(name) for name in shares} == shares
    assert (found.get("team"), found.get("owner")) == ("search", "o" * 200)


def test_what_it_costs_is_taken_off_its_teams_lease(tmp_path: Path) -> None:
    lease = Hold.objects.create(pk=call_id(), team="search", day=NOON.date(), dollars=1, writer="a worker")
    share = {"id": str(lease.pk), "dollars": "0.25"}
    ship(tmp_path, end(call(team="search", team_lease=share, error_message="a\0")))
    lease.refresh_from_db()
    assert lease.dollars == Decimal("0.75")
    assert TeamDay.objects.get().cost == Request.objects.get().cost


@pytest.mark.parametrize(
    ("supposed", "kept"),
    [
        ({"input_tokens": 100, "output_tokens": 1000}, {"input_tokens": 100, "output_tokens": 1000}),
        ({"input_tokens": 7, "other_usage": {"file_searches": 10}},
         {"input_tokens": 7, "other_usage": {"file_searches": 10}}),
        ({"input_tokens": -1, "output_tokens": 9, "other_usage": {"image_model": "a\0"}}, {"output_tokens": 9}),
        ({"output_tokens": 9, "answers": 8, "is_of_named_account": True},
         {"output_tokens": 9, "answers": 8, "is_of_named_account": True}),
        ({"output_tokens": 9, "answers": 0, "is_of_named_account": "no"}, {"output_tokens": 9}),
        ([5], None),
        (None, None),
    ],
)  # fmt: skip
def test_a_stub_keeps_what_is_supposed_of_its_call(tmp_path: Path, supposed: Any, kept: Any) -> None:
    unfinished = call(
        route="/v1/responses", response_id="resp_1", response_status="queued", pollable=True, usage=None,
        usage_source="unknown", input_tokens=None, cached_tokens=None, output_tokens=None,
    )  # fmt: skip
    ship(tmp_path, end({**unfinished, "supposed": supposed, "user_agent": "curl\0"}))
    response = PendingResponse.objects.get()
    assert response.supposed == kept
    if kept is not None and "input_tokens" in kept:
        forget_pending(response)
        stub = Request.objects.get()
        assert (stub.error_code, stub.usage_source) == ("dead_letter", "estimated")
        assert stub.input_tokens == kept["input_tokens"]
        assert stub.cost
        assert_sums_are_right()


def test_a_stub_that_is_refused_too_leaves_its_numbers(tmp_path: Path) -> None:
    with connection.cursor() as cursor:  # a fault that nobody has thought of
        cursor.execute("ALTER TABLE usage_request ADD CONSTRAINT odd CHECK (request_model = '')")
    try:
        row = call(error_message="a")
        ship(tmp_path, end(row))
        stub = Request.objects.get()
        assert (stub.error_code, stub.input_tokens, stub.request_model) == ("dead_letter", row["input_tokens"], "")
        assert_sums_are_right()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE usage_request DROP CONSTRAINT odd")


def test_a_stub_whose_numbers_are_refused_is_a_row(tmp_path: Path) -> None:
    """The sums cannot take them: every call is in the ledger all the same."""
    ship(tmp_path, end(call()))
    UsageTotal.objects.update(input_tokens=2**63 - 1)
    row = call()
    ship(tmp_path, end(row))
    stub = Request.objects.get(request_id=row["request_id"])
    assert (stub.error_code, stub.key_name, stub.input_tokens) == ("dead_letter", row["key_name"], None)
    assert [letter["input_tokens"] for letter in letters(tmp_path)] == [row["input_tokens"]]
