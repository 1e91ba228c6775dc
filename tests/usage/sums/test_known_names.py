"""Names that callers make up do not grow the sums for ever; their rows keep them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger.ledgers import NOON, SUMS, Row, assert_sums_are_right, call, stored, stored_sums
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import ErrorTotal, KnownName, Request, UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.page_data.errors.error_groups import read_groups
from usage.page_data.filters import Filters, read_filters
from usage.page_data.search import find
from usage.sums import summed_names
from usage.sums.ranges import TimeRange
from usage.sums.summed_names import MOST_NEW, OTHER_CODE, UNKNOWN_MODEL
from usage.sums.totals_rollup import Rollup
from usage.upkeep.rebuild_totals import rebuild_totals, summed_rows
from usage.upkeep.retention import prune

pytestmark = pytest.mark.django_db

SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def failed(model: str, **columns: Any) -> Row:
    """A call that upstream has not answered for."""
    facts: Row = {"response_model": "", "outcome": "upstream_error", "status": 404, "error_code": "no_such_model"}
    nothing = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "usage"))
    return call(request_model=model, **{**facts, **nothing, **columns})


def answered(model: str, **columns: Any) -> Row:
    return call(request_model=model, **{"response_model": model, **columns})


def deliver(*batches: Sequence[Row]) -> None:
    for batch in batches:
        write_rows(Pricer().priced(batch))


def models() -> set[str]:
    """The models that have sums, in every table that has models; they must agree."""
    found = set(UsageTotal.objects.filter(dimension="model", calls__gt=0).values_list("value", flat=True))
    assert set(UsageHour.objects.filter(calls__gt=0).values_list("model", flat=True)) == found
    assert set(ErrorTotal.objects.filter(calls__gt=0).values_list("model", flat=True)) <= found
    return found


def test_made_up_models_are_summed_up_together() -> None:
    made_up = [failed(f"made-up-{number}") for number in range(300)]
    deliver(made_up[:150], made_up[150:])
    assert models() == {UNKNOWN_MODEL}
    assert UsageTotal.objects.get(span="day", dimension="model").errors == 300
    assert [row.request_model for row in stored(*(row["request_id"] for row in made_up))] == [
        row["request_model"] for row in made_up
    ]
    assert_sums_are_right()


@pytest.mark.parametrize("outcome", ["upstream_error", "timeout", "unreachable", "rejected", "client_cancelled"])
def test_a_model_that_has_answered_keeps_its_name_when_it_fails(outcome: str) -> None:
    deliver([answered("llama-3")], [failed("llama-3", outcome=outcome), failed("llama-4", outcome=outcome)])
    assert models() == {"llama-3", UNKNOWN_MODEL}
    assert_sums_are_right()


def test_a_model_of_the_price_list_needs_no_answer_and_its_misspellings_do() -> None:
    deliver([failed("gpt-4o"), failed("gpt-4o-typo"), failed("GPT-4o"), failed("")])
    assert models() == {"gpt-4o", UNKNOWN_MODEL, ""}


def test_a_name_like_the_gateways_own_words_gets_no_sums_of_its_own() -> None:
    rows = [answered(UNKNOWN_MODEL), failed("gpt-4o", error_code=OTHER_CODE)]
    deliver(rows)
    model, code = stored(*(row["request_id"] for row in rows))
    assert (model.unknown_model, code.other_code) == (True, True)
    assert [row.pk for row in find(Filters(model=UNKNOWN_MODEL), wanted=5).calls] == [model.pk]
    assert not KnownName.objects.filter(name__in=[UNKNOWN_MODEL, OTHER_CODE]).exists()
    assert_sums_are_right()


def test_an_upstream_that_answers_to_every_name_teaches_so_many_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver([answered(f"echo-{number:03}") for number in range(MOST_NEW + 50)])
    assert len(models()) == MOST_NEW + 1
    assert_sums_are_right()
    deliver([answered("another")])
    assert "another" not in models()
    KnownName.objects.update(learnt_on=timezone.now() - timedelta(days=1))
    deliver([answered("another")])
    assert "another" in models()
    assert_sums_are_right()


def test_made_up_codes_are_bounded_as_well() -> None:
    deliver([failed("gpt-4o", error_code=f"no model {number:03}") for number in range(MOST_NEW + 50)])
    codes = set(ErrorTotal.objects.values_list("error_code", flat=True))
    assert len(codes) == MOST_NEW + 1
    assert OTHER_CODE in codes
    assert_sums_are_right()


def test_made_up_messages_are_bounded_as_well() -> None:
    def words(number: int) -> str:
        return "no " + "abcdefghij"[number // 100] + "klmnopqrst"[number // 10 % 10] + "uvwxyzABCD"[number % 10]

    rows = [failed("gpt-4o", error_code="odd", error_message=words(number)) for number in range(MOST_NEW + 50)]
    deliver(rows, [failed("gpt-4o", error_code="odd", error_message=words(0))])
    codes = dict(ErrorTotal.objects.filter(span="day").values_list("error_code", "calls"))
    assert len(codes) == MOST_NEW + 1
    assert codes["odd"] == 50
    assert sorted(codes.values())[-2] == 2
    assert_sums_are_right()


@pytest.mark.parametrize("outcome", ["timeout", "unreachable", "rejected", "client_cancelled"])
def test_messages_of_the_gateway_make_no_groups(outcome: str) -> None:
    deliver([failed("gpt-4o", error_code="odd", error_message=words, outcome=outcome) for words in ("one", "two")])
    assert set(ErrorTotal.objects.values_list("error_code", flat=True)) == {"odd"}
    assert_sums_are_right()


def test_codes_of_calls_that_succeeded_teach_nothing() -> None:
    deliver([answered("gpt-4o", error_code="odd")])
    assert not KnownName.objects.filter(kind="code").exists()


def test_a_row_is_taken_back_from_the_group_it_is_in_whatever_became_known_meanwhile() -> None:
    guess = failed("llama-3")
    deliver([interrupted(guess)], [answered("llama-3")], [guess])
    assert models() == {"llama-3"}
    assert_sums_are_right()


def spoken(model: str, **columns: Any) -> Row:
    """The answer does not name its model: sound."""
    return answered(model, response_model="", **columns)


KINDS: list[Callable[..., Row]] = [failed, answered, spoken]
PLANS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(["gpt-4o", "llama-3", "llama-4", "made-up", ""]),
        st.sampled_from(["a", "b", ""]),
        st.integers(0, 3000),
    ),
    max_size=12,
)


@SLOW
@given(PLANS, st.integers(0, 2), st.randoms(use_true_random=False), st.data())
def test_sums_made_anew_or_taken_back_are_those_that_grew(
    plan: list[tuple[Any, str, str, int]], room: int, chance: random.Random, data: st.DataObject
) -> None:
    """With room for few names, so that some become known, some later, and some never."""
    rows = [
        {**kind(name, error_code=code), "started_at": NOON + timedelta(minutes=minutes)}
        for kind, name, code, minutes in plan
    ]
    for model in (Request, *SUMS, KnownName):
        model.objects.all().delete()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summed_names, "MOST_NEW", room)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
        deliver(*(rows[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)))
    assert_sums_are_right()
    before = _totals()
    rebuild_totals(NOON + timedelta(days=3))
    assert _totals() == before

    gone = chance.sample(rows, len(rows) // 2)
    rollup = Rollup()
    taken = Request.objects.filter(pk__in=[row["request_id"] for row in gone])
    rollup.add(summed_rows(taken), sign=-1)
    taken.delete()
    with transaction.atomic(), connection.cursor() as cursor:
        rollup.write(cursor)
    hours, _ = stored_sums()
    assert sum(hour["calls"] for hour in hours.values()) == Request.objects.count()
    assert {key[2] for key in hours} == {
        UNKNOWN_MODEL if row.unknown_model else row.response_model or row.request_model for row in Request.objects.all()
    }


def _totals() -> set[tuple[Any, ...]]:
    columns = ("span", "dimension", "start", "value", "calls", "errors", "input_tokens", "cost")
    totals = UsageTotal.objects.exclude(span="minute").values_list(*columns)
    failures = ErrorTotal.objects.values_list("span", "start", "model", "error_code", "calls")
    return {*totals, *failures}


def test_pruned_rows_keep_their_sums(settings: Any) -> None:
    settings.RETENTION_DAYS = 1
    deliver([failed("made-up")])
    prune(timezone.now() + timedelta(days=30), all_at_once=True)
    assert not Request.objects.exists()
    assert models() == {UNKNOWN_MODEL}


# --- pages


@pytest.fixture
def many() -> list[Row]:
    rows = [failed(f"made-up-{number}", error_code=f"code {number:03}") for number in range(MOST_NEW + 2)]
    deliver([*rows, answered("gpt-4o"), failed("gpt-4o")])
    return rows


def test_the_unknown_are_found_as_a_group_and_by_their_names(many: list[Row]) -> None:
    unknown = find(Filters(model=UNKNOWN_MODEL), wanted=500).calls
    assert {call.request_model for call in unknown} == {row["request_model"] for row in many}
    assert [call.request_model for call in find(Filters(model="made-up-7")).calls] == ["made-up-7"]
    assert [call.request_model for call in find(Filters(q="made-up-77")).calls] == ["made-up-77"]
    assert len(find(Filters(code=OTHER_CODE)).calls) == 3  # two codes too many, and that of the last call


def test_every_group_of_errors_leads_to_its_calls(many: list[Row]) -> None:
    for group in read_groups(TimeRange("custom", NOON - timedelta(hours=1), NOON + timedelta(hours=1))):
        filters = read_filters(group.filters, NOON)
        assert len(find(filters, wanted=500).calls) == group.calls, group.kind
