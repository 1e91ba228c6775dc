"""The latency histogram: its percentiles are within 5 % of the exact ones."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usage.models import UsageTotal
from usage.sums.histogram import ENDS, FIRST_END, LAST, bucket, pack, percentile, unpack
from usage.sums.sum_tables import ADD_TOTALS, NO_HISTOGRAMS

SHARES = [0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]
LATENCIES = st.floats(FIRST_END, ENDS[-1], exclude_max=True)
# Those that could be put into the wrong bucket: the limits themselves, and their neighbours.
EDGES = st.sampled_from(ENDS[:-1]).flatmap(
    lambda limit: st.sampled_from([limit, math.nextafter(limit, math.inf), max(FIRST_END, math.nextafter(limit, 0))])
)


def histogram_of(latencies: Sequence[float]) -> list[int]:
    buckets = [bucket(latency) for latency in latencies]
    return [buckets.count(number) for number in range(max(buckets, default=-1) + 1)]


def exact(latencies: Sequence[float], share: float) -> float:
    """The smallest latency that at least `share` of the calls did not exceed."""
    rank = math.ceil(Fraction(str(share)) * len(latencies)) or 1
    return sorted(latencies)[rank - 1]


def assert_close(latencies: Sequence[float]) -> None:
    histogram = histogram_of(latencies)
    for share in SHARES:
        found = percentile(histogram, share)
        assert found is not None
        assert found == pytest.approx(exact(latencies, share), rel=0.05), share


@given(st.lists(LATENCIES | EDGES, min_size=1, max_size=200))
def test_percentiles_of_any_latencies_are_close(latencies: list[float]) -> None:
    assert_close(latencies)


@pytest.mark.parametrize(
    "latencies",
    [
        [1.0] * 99 + [100_000.0],
        [0.011] * 50 + [900_000.0] * 50,
        [1.1**number for number in range(120)],
        [float(number) for number in range(1, 20_000)],
        [250.0],
        [250.0] * 10_000,
    ],
    ids=["one outlier", "two extremes", "a ladder", "a ramp", "one", "all the same"],
)
def test_percentiles_of_adversarial_latencies_are_close(latencies: list[float]) -> None:
    assert_close(latencies)


def test_no_calls_have_no_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([0, 0], 0.5) is None


@given(st.floats(0, allow_nan=False), st.floats(0, allow_nan=False))
def test_a_longer_call_is_never_in_a_lower_bucket(first: float, second: float) -> None:
    low, high = sorted([first, second])
    assert 0 <= bucket(low) <= bucket(high) <= LAST


@pytest.mark.django_db
def test_postgresql_puts_every_latency_into_the_same_bucket() -> None:
    edges = [math.nextafter(limit, way) for limit in ENDS for way in (0.0, limit, math.inf)]
    latencies = [0.0, *edges, 1e9]
    with connection.cursor() as cursor:
        cursor.execute("SELECT width_bucket(ms, %s::float8[]) FROM unnest(%s::float8[]) AS ms", [ENDS, latencies])
        assert [number for (number,) in cursor.fetchall()] == [bucket(latency) for latency in latencies]


@given(st.dictionaries(st.integers(0, LAST), st.integers(0, 3)))
def test_a_packed_histogram_stands_for_the_same_calls(counts: dict[int, int]) -> None:
    packed = pack(counts)
    assert {number: count for number, count in enumerate(unpack(packed)) if count} == {
        number: count for number, count in counts.items() if count
    }
    assert len(packed) <= max(counts, default=0) - min(counts, default=0) + 2


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.integers(0, LAST), st.integers(-2, 5)), min_size=1, max_size=5))
def test_postgresql_adds_packed_histograms_up(parts: list[dict[int, int]]) -> None:
    UsageTotal.objects.all().delete()
    with connection.cursor() as cursor:
        for counts in parts:
            names = {field.name: 0 for field in UsageTotal._meta.concrete_fields if field.name != "pk"}
            total = {**names, **NO_HISTOGRAMS, "span": "day", "dimension": "key", "start": "2026-11-01", "value": "ada",
                     "durations": pack(counts)}  # fmt: skip
            cursor.execute(ADD_TOTALS, [json.dumps([total])])
    expected = Counter[int]()
    for counts in parts:
        expected.update(counts)
    found = unpack(UsageTotal.objects.get().durations)
    assert {number: count for number, count in enumerate(found) if count} == {
        number: count for number, count in expected.items() if count
    }
