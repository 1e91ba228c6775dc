"""Background responses whose usage upstream will never state: the call that made one gets what is supposed of it.

Over 300 lines, since each way to give up asking is tried on the same response.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, Row, call
from usage.journal_shipping import background_responses
from usage.journal_shipping.background_responses import (
    GIVE_UP_AFTER,
    UNASKED_AFTER,
    forget_pending,
    lease_pending,
    suppose_unasked,
    suppose_usage,
)
from usage.journal_shipping.rows import write_rows
from usage.metric_counters import counters
from usage.models import CountedResponse, Hold, PendingResponse, Request, UsageDay
from usage.money.row_pricing import Pricer
from usage.upkeep import verify
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

SUPPOSED = {"input_tokens": 100, "output_tokens": 1000}
COST = (100 * Decimal("0.15") + 1000 * Decimal("0.6")) / 1_000_000
LONG_AGO = timedelta(minutes=5)  # time enough for all of it


@pytest.fixture(autouse=True)
def _polls(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 5, "sk-any"
    monkeypatch.setattr(verify, "SHIPPING_SECONDS", 0.0)


def write(*rows: Row) -> None:
    write_rows(Pricer().priced(list(rows)))


def made(**columns: Any) -> Row:
    """The row of a call that has made a background response, whose hold is there."""
    row = call(
        **{
            "route": "/v1/responses", "response_id": "resp_1", "response_status": "queued", "pollable": True,
            "usage": None, "usage_source": "unknown", "supposed": SUPPOSED,
            **dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens")), **columns,
        }
    )  # fmt: skip
    Hold.objects.create(pk=UUID(row["request_id"]), key_name=row["key_name"], day=NOON.date(), dollars=Decimal(1))
    return row


def pending(age: timedelta = LONG_AGO) -> PendingResponse:
    PendingResponse.objects.update(created_at=timezone.now() - age)
    return PendingResponse.objects.get()


def exact(**columns: Any) -> Row:
    later = {"method": "GET", "route": "/v1/responses/{id}", "response_status": "completed", "response_id": "resp_1"}
    counts = {"input_tokens": 7, "cached_tokens": 0, "output_tokens": 3, "usage": {"input_tokens": 7}}
    return call(NOON + timedelta(minutes=2), **{**later, **counts, **columns})


def spent() -> Decimal:
    return sum((day.cost for day in UsageDay.objects.all()), Decimal(0))


def assert_whole() -> None:
    assert list(find_faults(Path("/nonexistent"))) == []


def test_it_works() -> None:
    write(row := made())
    assert spent() == 0
    assert Hold.objects.count() == 1
    forget_pending(pending())

    stored = Request.objects.get(pk=row["request_id"])
    assert (stored.input_tokens, stored.output_tokens) == (100, 1000)
    assert (stored.usage_source, stored.cost_kind, stored.cost) == ("estimated", "estimated", COST)
    assert spent() == COST
    assert Hold.objects.count() == PendingResponse.objects.count() == 0
    assert CountedResponse.objects.get().request_id == stored.pk
    assert_whole()


def test_the_time_that_upstream_had_limits_it() -> None:
    write(row := made(supposed={"input_tokens": 100, "output_tokens": 10**6}, moment=timezone.now()))
    forget_pending(pending(timedelta(seconds=20)))
    assert 20_000 <= (Request.objects.get(pk=row["request_id"]).output_tokens or 0) < 30_000


def test_what_hosted_tools_may_have_done_is_counted_with_it() -> None:
    """What the request states, on which the price depends, stays beside it."""
    supposed = {**SUPPOSED, "other_usage": {"file_searches": 10, "containers": ["4g"]}}
    write(row := made(supposed=supposed, other_usage={"completion_window": "2h"}))
    forget_pending(pending())
    stored = Request.objects.get(pk=row["request_id"])
    assert stored.other_usage == {"completion_window": "2h", "file_searches": 10, "containers": ["4g"]}
    assert stored.cost == spent() == COST * Decimal("0.7") + 10 * Decimal("0.0025") + Decimal("0.12") / 4
    assert_whole()
    write(exact())
    assert spent() < COST
    assert_whole()


@pytest.mark.parametrize("end", [partial(forget_pending, is_gone=True), suppose_usage], ids=["gone", "refused"])
@pytest.mark.parametrize("is_reserved", [True, False])
def test_one_that_may_go_on_counts_all_that_was_reserved(end: Any, is_reserved: bool) -> None:
    """Nobody will know when upstream has ended it; without a budget the time limits what is supposed."""
    write(row := made(supposed={"input_tokens": 100, "output_tokens": 10**6}, moment=timezone.now()))
    if not is_reserved:
        Hold.objects.all().delete()
    end(pending(timedelta(seconds=20)))
    output = Request.objects.get(pk=row["request_id"]).output_tokens or 0
    assert (output == 10**6) == is_reserved
    assert Hold.objects.count() == 0
    assert_whole()


def test_of_a_call_of_older_code_the_input_is_counted() -> None:
    write(row := made(supposed=None))
    forget_pending(pending())
    stored = Request.objects.get(pk=row["request_id"])
    assert (stored.input_tokens, stored.output_tokens) == (-(-row["request_bytes"] // 4), 0)
    assert stored.cost is not None
    assert spent() == stored.cost > 0


@pytest.mark.parametrize("end", [forget_pending, suppose_usage], ids=["gone", "refused"])
def test_the_exact_usage_replaces_it(end: Any) -> None:
    write(row := made())
    end(pending())
    end(PendingResponse.objects.first() or PendingResponse(response_id="resp_1", request_id=row["request_id"]))
    assert spent() == COST
    write(seen := exact())
    costs = {str(one.pk): one.cost or Decimal(0) for one in Request.objects.all()}
    assert costs[row["request_id"]] == 0
    assert spent() == costs[seen["request_id"]] > 0
    assert Hold.objects.count() == PendingResponse.objects.count() == 0
    assert_whole()


def test_what_is_refused_is_asked_about_again() -> None:
    write(made())
    response = pending()
    suppose_usage(response)
    assert spent() == COST
    assert Hold.objects.count() == 0
    assert PendingResponse.objects.get().ask_at > timezone.now()
    suppose_usage(response)
    assert spent() == COST
    assert_whole()


def versions() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text, cost FROM usage_request")
        found: list[Any] = cursor.fetchall()
    return found


@pytest.mark.parametrize("is_reserved", [True, False])
@pytest.mark.parametrize("source", ["unknown", "estimated"])
def test_a_further_refusal_writes_nothing(source: str, is_reserved: bool) -> None:
    """However long upstream refuses: the time that passes says nothing of a response that nobody can see."""
    counts = {"input_tokens": 5, "output_tokens": 6} if source == "estimated" else {}
    supposed = {"input_tokens": 100, "output_tokens": 10**6}
    write(made(**counts, usage_source=source, response_status="in_progress", supposed=supposed, moment=timezone.now()))
    if not is_reserved:
        Hold.objects.all().delete()
    suppose_usage(pending(timedelta(seconds=20)))
    before = versions()
    for minutes in (1, 60):
        Request.objects.update(started_at=timezone.now() - timedelta(minutes=minutes))
        before = versions()
        suppose_usage(pending(timedelta(minutes=minutes)))
        assert versions() == before
    output = Request.objects.get().output_tokens or 0
    assert (output == 10**6) == is_reserved
    assert output == 6 or source == "unknown" or is_reserved


def test_an_estimate_that_is_not_raised_is_not_written() -> None:
    write(made(**SUPPOSED, usage_source="estimated", response_status="in_progress"))
    before = versions()
    forget_pending(pending())
    assert versions() == before
    assert PendingResponse.objects.count() == 0


@pytest.mark.parametrize("is_reserved", [True, False])
def test_what_has_come_of_a_response_that_ended_is_kept_without_a_budget(is_reserved: bool) -> None:
    estimate = {"input_tokens": 5, "output_tokens": 6, "usage_source": "estimated", "response_status": "in_progress"}
    write(made(**estimate))
    if not is_reserved:
        Hold.objects.all().delete()
    forget_pending(pending(), has_ended=True)
    assert Request.objects.get().output_tokens == (1000 if is_reserved else 6)
    assert Hold.objects.count() == PendingResponse.objects.count() == 0


def test_an_estimate_that_is_there_stays() -> None:
    """That of a stream that was left: what has come of it is better than what was reserved."""
    estimate = {"input_tokens": 5, "output_tokens": 6, "usage_source": "estimated", "supposed": None}
    write(row := made(**estimate))
    before = spent()
    forget_pending(pending())
    assert spent() == before > 0
    assert Request.objects.get(pk=row["request_id"]).output_tokens == 6
    assert Hold.objects.count() == 0
    assert_whole()


@pytest.mark.parametrize("is_reserved", [True, False])
def test_the_estimate_of_a_stream_that_goes_on_is_raised_and_never_lowered(is_reserved: bool) -> None:
    """It has ended without a usage: upstream may have made in that time what the limit allows."""
    seen = {"input_tokens": 500, "output_tokens": 6, "other_usage": {"file_searches": 12}}
    supposed = {**SUPPOSED, "other_usage": {"file_searches": 10}}
    write(row := made(**seen, supposed=supposed, usage_source="estimated", response_status="in_progress"))
    if not is_reserved:
        Hold.objects.all().delete()
    forget_pending(pending())
    stored = Request.objects.get(pk=row["request_id"])
    assert (stored.input_tokens, stored.output_tokens, stored.other_usage) == (500, 1000, {"file_searches": 12})
    assert spent() == stored.cost
    assert_whole()


@pytest.mark.parametrize("end", [partial(forget_pending, is_gone=True), suppose_usage], ids=["gone", "refused"])
def test_a_stream_that_was_left_in_the_background_counts_all_that_was_reserved(end: Any) -> None:
    """Its estimate is of what had come until then, and upstream has gone on."""
    estimate = {"input_tokens": 5, "output_tokens": 6, "usage_source": "estimated", "response_status": "in_progress"}
    write(row := made(**estimate))
    assert 0 < spent() < COST
    end(pending())
    stored = Request.objects.get(pk=row["request_id"])
    assert (stored.input_tokens, stored.output_tokens, stored.usage_source) == (100, 1000, "estimated")
    assert spent() == COST
    assert Hold.objects.count() == 0
    assert_whole()
    write(seen := exact())
    assert spent() == Request.objects.get(pk=seen["request_id"]).cost
    assert_whole()


def test_one_that_was_counted_meanwhile_stays_as_it_is() -> None:
    write(made())
    response = pending()
    write(exact())
    before = spent()
    forget_pending(response)
    suppose_usage(response)
    assert spent() == before
    assert_whole()


def test_after_a_month_nobody_asks_any_more() -> None:
    write(made())
    pending(GIVE_UP_AFTER + timedelta(minutes=1))
    assert lease_pending(5) == []
    assert spent() == COST
    assert Hold.objects.count() == PendingResponse.objects.count() == 0


@pytest.mark.parametrize("polls", [True, False])
def test_a_hold_waits_only_for_who_asks(settings: Settings, polls: bool) -> None:
    settings.BACKGROUND_POLL_SECONDS = 5 if polls else 0
    write(made())
    assert Hold.objects.count() == int(polls)
    assert PendingResponse.objects.count() == 1
    assert_whole()


@pytest.mark.parametrize("is_reserved", [True, False])
def test_a_response_that_was_pending_when_polling_was_switched_off_is_estimated(
    settings: Settings, is_reserved: bool
) -> None:
    """Also if its row was shipped after the change; the exact usage replaces the estimate when it is stated."""
    write(made())
    settings.BACKGROUND_POLL_SECONDS = 0
    pending(UNASKED_AFTER / 2)
    if not is_reserved:
        Hold.objects.all().delete()
        assert suppose_unasked(10) == 0  # it may still go on
        pending(UNASKED_AFTER * 2)
    assert suppose_unasked(10) == 1
    row = Request.objects.get()
    assert (row.usage_source, row.cost, row.cost_kind, spent()) == ("estimated", COST, "estimated", COST)
    assert Hold.objects.count() == 0
    assert suppose_unasked(10) == 0
    assert_whole()

    settings.BACKGROUND_POLL_SECONDS = 5
    PendingResponse.objects.update(ask_at=timezone.now())
    assert [one.response_id for one in lease_pending(5)] == ["resp_1"]
    write(exact())
    assert spent() < COST
    assert PendingResponse.objects.count() == 0
    assert_whole()


def test_without_polling_a_response_is_given_up_after_a_month(settings: Settings) -> None:
    settings.BACKGROUND_POLL_SECONDS = 0
    write(made())
    pending(GIVE_UP_AFTER + timedelta(minutes=1))
    assert suppose_unasked(10) == 0
    assert (spent(), PendingResponse.objects.count()) == (COST, 0)


def test_all_of_it_is_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    write(made())
    response = pending()

    def fail(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(background_responses, "settle_pending", fail)
    counted: list[object] = []
    monkeypatch.setattr(counters, "count_usage", lambda *rows: counted.append(rows))
    with pytest.raises(ConnectionError):
        forget_pending(response)
    assert spent() == 0
    assert counted == []  # the metrics count what has been committed
    assert Request.objects.get().usage_source == "unknown"
