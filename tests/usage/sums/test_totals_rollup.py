"""The sums kept beside the rows: equal to them, in whatever order and in however many batches these came."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger.ledgers import NOON, SUMS, Row, assert_sums_are_right, call, call_id, random_call, stored_sums
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import (
    ErrorTotal,
    KnownName,
    Request,
    SummedName,
    UsageDay,
    UsageHour,
    UsageTotal,
)
from usage.money.row_pricing import Pricer
from usage.sums.histogram import unpack
from usage.sums.totals_rollup import Rollup
from usage.upkeep.rebuild_totals import rebuild_totals, summed_rows

pytestmark = pytest.mark.django_db

START = datetime(2026, 10, 31, 22, 59, 59, tzinfo=UTC)
# Over the ends of an hour, a day and a month.
MOMENTS = st.integers(0, 3 * 3600 * 1000).map(lambda milliseconds: START + timedelta(milliseconds=milliseconds))
COUNTS = st.none() | st.integers(0, 2**40)
LATENCIES = st.none() | st.floats(0, 1e7)
ROWS = st.builds(
    lambda moment, **columns: call(moment, **columns),
    MOMENTS,
    request_id=st.integers(0, 2**62 - 1).map(lambda number: call_id(START, number)),
    key_name=st.sampled_from(["default", "größe", "a / b"]),
    route=st.sampled_from(["/openai", "/openai2"]),
    request_model=st.sampled_from(["gpt-4o-mini", "", "unknown"]),
    response_model=st.sampled_from(["gpt-4o-mini-2024-07-18", ""]),
    outcome=st.sampled_from(["success", "timeout"]),
    input_tokens=COUNTS, cached_tokens=COUNTS, output_tokens=COUNTS, reasoning_tokens=COUNTS,
    audio_seconds=st.none() | st.floats(0, 1e5),
    web_searches=st.none() | st.integers(0, 100),
    request_bytes=st.integers(0, 2**40), response_bytes=st.integers(0, 2**40),
    duration_ms=st.floats(0, 1e7), upstream_ms=LATENCIES, overhead_ms=LATENCIES,
    by_gateway=st.booleans(),
    team=st.sampled_from(["", "red"]),
    owner=st.sampled_from(["", "Ada"]),
    end_user=st.sampled_from(["", "one", "two"]),
    tags=st.lists(st.sampled_from(["night", "project=x", "project=y=z", "=", ""]), max_size=3),
    usage_source=st.sampled_from(["exact", "estimated", "unknown"]),
)  # fmt: skip
LISTS = st.lists(ROWS, max_size=12, unique_by=lambda row: row["request_id"])
SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def write_anew(batches: Sequence[Sequence[Row]]) -> None:
    """The tables have these rows, and no others."""
    for model in (Request, *SUMS):
        model.objects.all().delete()
    pricer = Pricer()
    for batch in batches:
        write_rows(pricer.priced(batch))


def test_it_works() -> None:
    write_anew([[call(), call(duration_ms=1.0, cached_tokens=None), call(response_model="", request_model="x")]])
    hours = {hour.model: hour for hour in UsageHour.objects.all()}
    known = hours["gpt-4o-mini-2024-07-18"]
    assert (known.calls, known.unpriced_calls, known.input_tokens, known.cached_tokens) == (2, 0, 2000, 200)
    assert (known.max_duration_ms, known.max_cached_tokens) == (812.345, 200)
    assert sum(unpack(known.durations)) == 2
    assert known.duration_ms_histogram == []
    assert hours["x"].unpriced_calls == 1
    day = UsageDay.objects.get()
    assert (day.calls, day.input_tokens, day.cost) == (3, 3000, known.cost)
    assert_sums_are_right()


@SLOW
@given(LISTS)
def test_sums_equal_their_rows(rows: list[Row]) -> None:
    write_anew([rows])
    assert Request.objects.count() == len(rows)
    assert_sums_are_right()


@SLOW
@given(LISTS, st.randoms(use_true_random=False), st.data())
def test_neither_order_nor_batches_change_a_sum(rows: list[Row], chance: random.Random, data: st.DataObject) -> None:
    KnownName.objects.get_or_create(kind="model", name="unknown", learnt_on=START)  # else the first answer changes it
    write_anew([rows])
    expected = rounded(stored_sums())
    shuffled = chance.sample(rows, len(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    write_anew([shuffled[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)])
    assert rounded(stored_sums()) == expected


def rounded(value: Any) -> Any:
    """Sums of doubles depend on their order, in the last digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(rounded, value))
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


def test_rows_taken_back_leave_nothing_behind() -> None:
    chance = random.Random(1)
    write_anew([[random_call(chance) for _ in range(50)]])
    before = stored_sums()
    more = [random_call(chance) for _ in range(50)]
    write_rows(Pricer().priced(more))
    rollup = Rollup()
    names = [row["request_id"] for row in more]
    rollup.add(summed_rows(Request.objects.filter(pk__in=names)), sign=-1)
    Request.objects.filter(pk__in=names).delete()
    with transaction.atomic(), connection.cursor() as cursor:
        rollup.write(cursor)
    hours, days = stored_sums()
    assert days == before[1]
    for key, hour in hours.items():
        without_maxima = {name: value for name, value in hour.items() if not name.startswith("max_")}
        assert without_maxima.items() <= before[0][key].items()


def test_totals_are_of_all_calls_and_of_what_tells_them_apart() -> None:
    write_anew(
        [[call(), call(key_name="other", outcome="timeout", duration_ms=50.0)], [call(NOON + timedelta(hours=1))]]
    )
    totals = {(total.span, total.dimension, total.start, total.value): total for total in UsageTotal.objects.all()}
    day = NOON.replace(hour=0)

    assert (totals["day", "all", day, ""].calls, totals["day", "all", day, ""].errors) == (3, 1)
    assert (totals["hour", "all", NOON, ""].calls, totals["minute", "all", NOON, ""].input_tokens) == (2, 2000)
    assert sum(totals["day", "all", day, ""].duration_ms_histogram) == 3
    assert (totals["hour", "key", NOON, "other"].errors, totals["hour", "outcome", NOON, "timeout"].calls) == (1, 1)
    assert totals["day", "model", day, "gpt-4o-mini-2024-07-18"].cost == totals["day", "route", day, "/openai"].cost > 0
    for (_, dimension, _, _), total in totals.items():
        assert sum(total.duration_ms_histogram) == (total.calls if dimension == "all" else 0)
        assert sum(unpack(total.durations)) == (0 if dimension in ("all", "outcome") else total.calls)
    assert set(SummedName.objects.values_list("dimension", "value")) == {
        ("key", "default"), ("key", "other"), ("model", "gpt-4o-mini-2024-07-18"), ("route", "/openai")
    }  # fmt: skip


def test_failures_are_counted_with_their_moments_and_a_sample() -> None:
    later = NOON + timedelta(minutes=59)
    failed = [call(moment, outcome="timeout", status=504, error_code="slow") for moment in (NOON, later)]
    write_anew([[failed[0], call()], [failed[1]], [call(outcome="client_cancelled", status=None)]])
    slow, gone = ErrorTotal.objects.filter(span="hour").order_by("-status")

    assert (slow.calls, slow.first_at, slow.last_at, str(slow.sample_id)) == (2, NOON, later, failed[1]["request_id"])
    assert (slow.outcome, slow.status, slow.error_code, slow.key_name) == ("timeout", 504, "slow", "default")
    assert (gone.outcome, gone.status, gone.error_code, gone.calls) == ("client_cancelled", 0, "", 1)
    assert ErrorTotal.objects.get(span="day", status=504).calls == 2


def test_a_guess_that_is_replaced_is_no_failure_any_more() -> None:
    real = call()
    write_anew([[interrupted(real)], [real]])

    assert {group.calls for group in ErrorTotal.objects.all()} == {0}
    assert UsageTotal.objects.get(span="day", dimension="all").errors == 0
    assert_sums_are_right()


def test_sums_made_anew_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.upkeep.rebuild_totals.BATCH_SIZE", 7)  # of 200 rows
    chance = random.Random(2)
    write_anew([[random_call(chance, NOON + timedelta(minutes=chance.randrange(4000))) for _ in range(200)]])
    before = sums_beside_the_rows()
    UsageTotal.objects.update(calls=7)
    ErrorTotal.objects.all().delete()
    rebuild_totals(NOON + timedelta(days=1))

    assert rounded(sums_beside_the_rows()) == rounded(before)
    assert_sums_are_right()


def sums_beside_the_rows() -> dict[str, list[tuple[Any, ...]]]:
    return {
        model.__name__: sorted(
            model.objects.values_list(*(field.name for field in model._meta.concrete_fields)), key=str
        )
        for model in (UsageTotal, ErrorTotal)
    }


def test_a_batch_of_nothing_writes_nothing() -> None:
    assert write_rows([]) == 0
    assert not UsageHour.objects.exists()
