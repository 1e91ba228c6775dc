"""The latency histogram: its percentiles are within 5 % of the exact ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from usage.sums.histogram import ENDS, FIRST_END, LAST, bucket, percentile

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
