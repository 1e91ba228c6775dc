"""Two hosts with one database: they never poll the same response at once, and never wait for each other for ever.

Each test has two connections, and stops one of two transactions until the other waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import call_id
from tests.support.ledger.response_rows import about, assert_sums_are_right, cost_of, counted, deliver, queued, seen
from tests.support.other_connection import Beside
from usage.journal_shipping import background_responses, response_billing
from usage.journal_shipping.background_responses import LEASE, forget_pending, lease_pending, suppose_usage
from usage.models import CountedResponse, Hold, PendingResponse, Request
from usage.upkeep import verify

pytestmark = pytest.mark.django_db(transaction=True)

SUPPOSED = {"input_tokens": 100, "output_tokens": 1000}


@pytest.fixture(autouse=True)
def _polls(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 5, "sk-any"
    monkeypatch.setattr(verify, "SHIPPING_SECONDS", 0.0)


@contextmanager
def stopped_before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, other: Beside) -> Iterator[None]:
    """In the block, the first call of a function first lets the other host run until that waits."""
    real, main = getattr(module, name), threading.current_thread()

    def stopped(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is main and not other.thread.ident:
            other.start_and_wait_until_it_waits()
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stopped)
        yield


def remember(count: int) -> set[str]:
    ids = {f"resp_{number}" for number in range(count)}
    PendingResponse.objects.bulk_create(
        PendingResponse(response_id=one, request_id=call_id(), key_name="default") for one in sorted(ids)
    )
    PendingResponse.objects.update(ask_at=timezone.now() - timedelta(seconds=1))
    return ids


def names(responses: list[PendingResponse]) -> list[str]:
    return sorted(response.response_id for response in responses)


@pytest.mark.parametrize(("count", "first", "second"), [(5, 3, 3), (5, 5, 5), (1, 1, 1), (40, 20, 20), (3, 1, 20)])
def test_what_one_host_is_leasing_the_other_skips(count: int, first: int, second: int) -> None:
    """The first host's transaction is open while the second one leases: it neither waits nor gets the same."""
    ids = remember(count)
    with transaction.atomic():
        mine = names(lease_pending(first))
        other = Beside(lambda: lease_pending(second))
        other.start_and_wait_until_it_waits()
        other.join()
    theirs = names(other.result)
    assert not set(mine) & set(theirs)
    assert len(mine) == min(first, count)
    assert len(theirs) == min(second, count - len(mine))
    assert set(mine) | set(theirs) <= ids
    assert {*names(lease_pending(count))} == ids - {*mine, *theirs}  # once both have committed


def test_many_hosts_lease_each_response_once() -> None:
    ids = remember(60)
    hosts = [Beside(lambda: [lease_pending(7) for _ in range(4)]) for _ in range(6)]
    for host in hosts:
        host.thread.start()
    for host in hosts:
        host.join()
    leased = [name for host in hosts for responses in host.result for name in names(responses)]
    assert sorted(leased) == sorted(ids)


def test_a_lease_that_was_given_back_or_has_passed_is_for_whoever_comes_first() -> None:
    remember(1)
    [response] = lease_pending(1)
    assert lease_pending(1) == []
    PendingResponse.objects.update(ask_at=timezone.now() - LEASE)
    assert names(lease_pending(1)) == [response.response_id]


# One host learns the exact usage of a response while the other gives up asking for it.


@pytest.fixture
def response() -> PendingResponse:
    """A response whose call has its row and a hold, asked about for five minutes."""
    row = queued(supposed=SUPPOSED)
    Hold.objects.create(pk=row["request_id"], key_name=row["key_name"], day=timezone.now().date(), dollars=1)
    deliver([row])
    PendingResponse.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    return PendingResponse.objects.get()


def assert_counted_once() -> None:
    assert counted() == (4005, 500, cost_of({"input_tokens": 4005, "cached_tokens": 0, "output_tokens": 500}))
    assert not PendingResponse.objects.exists()
    assert not Hold.objects.exists()
    assert CountedResponse.objects.count() == 1
    assert not Request.objects.filter(usage_source="estimated").exists()
    assert_sums_are_right()


@pytest.mark.parametrize("step", ["_with_supposed", "_write_usage", "settle_pending"])
@pytest.mark.parametrize("give_up", [forget_pending, suppose_usage])
def test_who_gives_up_first_is_corrected(
    response: PendingResponse, monkeypatch: pytest.MonkeyPatch, give_up: Callable[[PendingResponse], None], step: str
) -> None:
    other = Beside(lambda: deliver([seen()]))
    with stopped_before(monkeypatch, background_responses, step, other):
        give_up(response)
    if not other.thread.ident:  # this way of giving up has no such step
        other.thread.start()
    other.join()
    assert_counted_once()


@pytest.mark.parametrize("step", ["_claim", "remember_pending", "_replace_estimates", "_with_its_share"])
@pytest.mark.parametrize("give_up", [forget_pending, suppose_usage])
def test_who_gives_up_second_changes_nothing(
    response: PendingResponse, monkeypatch: pytest.MonkeyPatch, give_up: Callable[[PendingResponse], None], step: str
) -> None:
    other = Beside(lambda: give_up(response))
    with stopped_before(monkeypatch, response_billing, step, other):
        deliver([seen()])
    other.join()
    assert_counted_once()


def test_two_hosts_that_write_the_same_responses_in_other_orders_both_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"resp_{number}" for number in range(4)]
    deliver([queued(one) for one in ids])
    other = Beside(lambda: deliver([seen(one) for one in reversed(ids)]))
    with stopped_before(monkeypatch, response_billing, "_claim", other):
        deliver([seen(one) for one in ids])
    other.join()
    assert counted()[:2] == (4 * 4005, 4 * 500)
    assert not PendingResponse.objects.exists()
    assert_sums_are_right()


def test_a_call_that_continues_a_response_locks_its_maker_after_the_response() -> None:
    maker = queued(objects=["resp_1"], objects_last=False)
    deliver([maker])
    other = Beside(lambda: deliver([seen(), about("resp_2", previous_response_id="resp_1")]))
    with transaction.atomic():
        PendingResponse.objects.select_for_update().get()  # as whoever polls the response
        other.start_and_wait_until_it_waits()
        Request.objects.select_for_update().get(pk=maker["request_id"])
    other.join()
    assert Request.objects.get(pk=maker["request_id"]).session == "resp_1"
    assert_sums_are_right()
