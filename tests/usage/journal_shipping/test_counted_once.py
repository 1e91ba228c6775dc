"""A response's usage is counted once, however many rows speak of it: an estimate gives way to the exact figures.

Over 300 lines, since every order of the same few rows is tried on the same tables.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger.ledgers import NOON, Row, call_id, end, ship, stored
from tests.support.ledger.response_rows import (
    ESTIMATE,
    EXACT,
    about,
    assert_sums_are_right,
    cost_of,
    counted,
    deliver,
    forget_everything,
    left,
    looked,
    queued,
    seen,
    unfinished,
)
from tests.support.polling import PATIENCE
from usage.journal_shipping import rows as usage_rows
from usage.journal_shipping.response_billing import COUNTED_BEFORE, COUNTED_LATER, ROUTES
from usage.metric_counters import counters
from usage.models import (
    CountedResponse,
    Hold,
    PendingResponse,
    Request,
    UsageDay,
    UsageHour,
    UsageTotal,
)
from usage.money import spent_and_reserved
from usage.money.spent_and_reserved import find_strays, spent_by
from usage.upkeep.repricing import reprice

pytestmark = pytest.mark.django_db

SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def _polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent_and_reserved, "responses_are_polled", lambda: True)


def test_the_exact_usage_takes_the_place_of_the_estimate() -> None:
    made, look = left(), seen()
    deliver([made])
    assert counted() == (5017, 12, cost_of(ESTIMATE))
    deliver([look])

    assert counted() == (4005, 500, cost_of(EXACT))
    before, after = stored(made["request_id"], look["request_id"])
    assert (before.input_tokens, before.output_tokens, before.cost) == (None, None, Decimal(0))
    assert (before.usage_source, before.price) == ("unknown", COUNTED_LATER)
    assert (after.input_tokens, after.usage_source) == (4005, "exact")
    assert CountedResponse.objects.get().request_id == after.request_id
    assert not PendingResponse.objects.exists()
    assert UsageTotal.objects.get(span="day", dimension="all").calls == 2
    assert UsageHour.objects.aggregate(Sum("input_tokens"))["input_tokens__sum"] == 4005
    assert_sums_are_right()


def test_usage_learnt_again_changes_nothing() -> None:
    looks = [seen() for _ in range(3)]
    deliver([left()], looks[:1], looks[1:], looks)

    assert counted() == (4005, 500, cost_of(EXACT))
    assert [row.price for row in stored(*(row["request_id"] for row in looks[1:]))] == [COUNTED_BEFORE] * 2
    assert_sums_are_right()


KINDS = st.sampled_from([left, queued, seen, looked, unfinished])
RESPONSES = st.sampled_from(["resp_1", "resp_2", "resp_3"])
PLANS = st.lists(st.tuples(KINDS, RESPONSES), max_size=10)


@SLOW
@given(PLANS, st.randoms(use_true_random=False), st.data())
def test_neither_order_nor_batches_nor_repetition_count_a_response_twice(
    plan: list[tuple[Any, str]], chance: random.Random, data: st.DataObject
) -> None:
    forget_everything()
    rows: list[Row] = []
    for kind, response_id in plan:
        made = any(row["response_id"] == response_id and row["method"] == "POST" for row in rows)
        if kind not in {left, queued} or not made:  # one call makes a response
            rows.append(kind(response_id))
    order = chance.sample(rows, len(rows)) + chance.sample(rows, len(rows) // 2)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
    deliver(*(order[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(order)], strict=True)))

    expected = [0, 0]
    for response_id in {row["response_id"] for row in rows}:
        own = [row for row in rows if row["response_id"] == response_id]
        known = [row for row in own if row["usage"]] or [row for row in own if row["usage_source"] == "estimated"]
        for row in known[:1]:
            expected = [expected[0] + row["input_tokens"], expected[1] + row["output_tokens"]]
    assert [number or 0 for number in counted()[:2]] == expected
    assert Request.objects.count() == len(rows)
    waiting = {row["response_id"] for row in rows if row["method"] == "POST"}
    waiting -= {row["response_id"] for row in rows if row["usage"]}
    assert set(PendingResponse.objects.values_list("pk", flat=True)) == waiting
    assert not Request.objects.filter(response_id__in=set(CountedResponse.objects.values_list("pk", flat=True))).filter(
        cost=None
    )
    assert_sums_are_right()


@pytest.mark.parametrize("route", [*ROUTES, "/v1/responses/{id}/cancel"])
@pytest.mark.parametrize("look_route", ["/openai2/{id}", "/v1/responses/{id}", "/v1/responses/{id}/cancel"])
def test_every_way_of_learning_the_usage_replaces_the_estimate(route: str, look_route: str) -> None:
    method = "POST" if look_route.endswith("cancel") else "GET"
    deliver([left(route=route)], [seen(route=look_route, method=method)])
    assert counted() == (4005, 500, cost_of(EXACT))
    assert_sums_are_right()


def test_an_estimate_of_code_that_claimed_nothing_is_replaced_too() -> None:
    deliver([left()])
    CountedResponse.objects.all().delete()
    deliver([seen()])
    assert counted() == (4005, 500, cost_of(EXACT))


def test_a_stored_completion_that_was_cut_is_corrected_by_the_first_look() -> None:
    cut = left("chatcmpl-1", route="/v1/chat/completions", response_status="", pollable=False)
    looks = [seen("chatcmpl-1", route="/v1/chat/completions/{id}") for _ in range(2)]
    deliver([cut], looks[:1], looks[1:], [cut])
    assert counted() == (4005, 500, cost_of(EXACT))
    assert_sums_are_right()


def test_two_cut_chats_of_a_server_that_repeats_its_ids_are_two() -> None:
    cut = [left("chatcmpl-1", route="/v1/chat/completions", response_status="") for _ in range(2)]
    deliver(cut[:1], cut[1:])
    assert counted()[0] == 2 * 5017


@pytest.mark.parametrize("route", [*ROUTES, "/v1/chat/completions"])
@pytest.mark.parametrize("kind", [left, about], ids=["estimated", "exact"])
def test_responses_of_a_server_that_repeats_its_ids_are_counted_each(kind: Callable[..., Row], route: str) -> None:
    deliver([about(request_id=call_id(NOON - timedelta(minutes=1)), input_tokens=0, output_tokens=0, cached_tokens=0)])
    made = [kind(route=route, request_id=call_id(NOON + timedelta(minutes=number)), **EXACT) for number in range(3)]
    deliver(made[:1], made[1:], made)
    assert counted() == (3 * 4005, 3 * 500, 3 * cost_of(EXACT))
    assert_sums_are_right()


@pytest.mark.parametrize("ended", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("is_estimated", [(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_with_repeated_ids_it_does_not_matter_which_call_ends_first(
    ended: tuple[int, ...], is_estimated: tuple[int, ...]
) -> None:
    kinds: list[Callable[..., Row]] = [left if number in is_estimated else about for number in range(3)]
    made = [kind(moment=NOON + timedelta(minutes=number), **EXACT) for number, kind in enumerate(kinds)]
    deliver(*([made[number]] for number in ended), made)
    assert counted() == (3 * 4005, 3 * 500, 3 * cost_of(EXACT))
    assert_sums_are_right()


def test_a_look_of_before_takes_nothing_from_a_later_response_of_the_same_id() -> None:
    late = left(request_id=call_id(NOON + timedelta(hours=1)))
    deliver([left()], [seen()], [late], [seen(moment=NOON + timedelta(hours=2))])
    assert counted()[:2] == (4005 + 5017, 500 + 12)
    assert_sums_are_right()


def test_a_background_response_that_goes_on_needs_no_price() -> None:
    made = queued()
    deliver([made])
    assert (UsageDay.objects.get().unpriced_calls, stored(made["request_id"])[0].cost) == (0, None)
    assert_sums_are_right()
    deliver([seen()])
    assert (UsageDay.objects.get().unpriced_calls, stored(made["request_id"])[0].price) == (0, COUNTED_LATER)
    assert_sums_are_right()


def test_a_stub_of_the_look_replaces_the_estimate_and_so_does_the_look_behind_it(tmp_path: Path) -> None:
    made, look = left(), seen(user_agent="\0")  # PostgreSQL takes no NUL
    ship(tmp_path / "a", end(made))
    ship(tmp_path / "b", end(look))
    assert stored(look["request_id"])[0].error_code == "dead_letter"
    assert counted() == (4005, 500, cost_of(EXACT))
    ship(tmp_path / "c", end({**look, "user_agent": ""}))
    assert counted() == (4005, 500, cost_of(EXACT))
    assert_sums_are_right()


def test_reprice_leaves_a_replaced_estimate_alone() -> None:
    deliver([left()], [seen()])
    assert reprice(NOON - timedelta(days=1), unpriced_only=False) == 0
    assert counted() == (4005, 500, cost_of(EXACT))


def test_a_budget_has_the_ceiling_then_the_exact_cost_and_never_both() -> None:
    made, ceiling = left(), Decimal("0.5")
    Hold.objects.create(request_id=made["request_id"], key_name="default", day=NOON.date(), dollars=ceiling)
    deliver([made], [made])
    assert spent_by("key", ["default"], NOON.date())["default"].total == ceiling
    deliver([seen()])
    spent = spent_by("key", ["default"], NOON.date())["default"]
    assert (spent.total, spent.held) == (cost_of(EXACT), Decimal(0))
    assert find_strays() == []


def test_metrics_count_what_the_estimate_lacked() -> None:
    deliver([left(key_name="metrics", route="/openai2")])
    before, dollars = counters.values.copy(), sum(counters.dollars.values())
    deliver([seen(route="/openai2/{id}")])
    added = {key: value - before.get(key, 0) for key, value in counters.values.items() if value != before.get(key, 0)}
    assert sum(value for key, value in added.items() if key[0] == "tokens") == 500 - 12  # input was estimated too high
    assert sum(counters.dollars.values()) - dollars == cost_of(EXACT) - cost_of(ESTIMATE)


def test_a_crash_in_the_middle_of_the_correction_leaves_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver([left()])
    look = seen()

    def crash(*_arguments: object) -> None:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(usage_rows, "write_objects", crash)
    with pytest.raises(RuntimeError), transaction.atomic():
        deliver([look])
    assert counted() == (5017, 12, cost_of(ESTIMATE))
    assert_sums_are_right()
    monkeypatch.undo()
    deliver([look])
    assert counted() == (4005, 500, cost_of(EXACT))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pair", [(left, seen), (seen, left), (seen, seen)], ids=lambda pair: pair[0].__name__)
def test_two_processes_that_write_at_the_same_time_count_it_once(pair: tuple[Any, Any]) -> None:
    """The first transaction stays open until the second waits for it."""
    if pair == (seen, seen):
        deliver([left()])
    second = threading.Thread(target=_deliver_beside, args=([pair[1]()],))
    with transaction.atomic():
        deliver([pair[0]()])
        second.start()
        _wait_for_a_waiting_transaction(second)
    second.join(PATIENCE)
    assert not second.is_alive()
    assert counted() == (4005, 500, cost_of(EXACT))
    assert_sums_are_right()


def _deliver_beside(rows: list[Row]) -> None:
    try:
        deliver(rows)
    finally:
        connections.close_all()


def _wait_for_a_waiting_transaction(thread: threading.Thread) -> None:
    with connection.cursor() as cursor:
        while thread.is_alive():
            # Within a transaction, PostgreSQL answers from what it saw at the first question.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            if cursor.fetchone() != (0,):
                return
    raise AssertionError("the second transaction did not wait")


def test_a_call_takes_no_estimate_of_another_one_with_the_same_id(tmp_path: Path) -> None:
    """Some servers give all of their responses one id."""
    broken = left("same")
    whole = about("same", request_id=call_id(NOON + timedelta(minutes=1)), usage={"input_tokens": 4005}, **EXACT)
    ship(tmp_path, end(broken))
    ship(tmp_path, end(whole))
    found = {str(row.pk): row.input_tokens for row in Request.objects.all()}
    assert found == {broken["request_id"]: ESTIMATE["input_tokens"], whole["request_id"]: EXACT["input_tokens"]}
    assert_sums_are_right()


def test_usage_that_is_too_long_to_be_kept_is_counted_once(tmp_path: Path) -> None:
    """Its counts are exact; what upstream said is not kept."""
    ship(tmp_path, end(queued()))
    for minute in (2, 3):
        ship(tmp_path, end(seen(moment=NOON + timedelta(minutes=minute), usage=None, usage_source="exact")))
    assert not PendingResponse.objects.exists()
    assert Request.objects.aggregate(sum=Sum("input_tokens")) == {"sum": EXACT["input_tokens"]}
    assert_sums_are_right()
