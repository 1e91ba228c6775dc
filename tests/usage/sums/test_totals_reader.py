"""Any stretch of time from days, hours and minutes: exactly what happened in it, whatever it is put together from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.models import Dimension, Span
from usage.money.row_pricing import Pricer
from usage.sums.ranges import NAMED, TimeRange, read_range
from usage.sums.totals_reader import (
    LENGTHS,
    MINUTES_READABLE,
    floor,
    pieces_of_range,
    read_by_value,
    read_durations,
    read_series,
    read_totals,
)

NOW = datetime(2026, 11, 24, 15, 7, 31, tzinfo=UTC)
MOMENTS = st.integers(1, 60 * 24 * 30).map(lambda minutes: NOW - timedelta(minutes=minutes))


@given(MOMENTS, st.integers(1, 60 * 24 * 20))
def test_pieces_follow_each_other_without_gap_or_overlap(start: datetime, minutes: int) -> None:
    end = min(NOW, start + timedelta(minutes=minutes))
    found = list(pieces_of_range(start, end, NOW))

    for (_, _, stop), (_, first, _) in pairwise(found):
        assert stop == first
    for span, first, _ in found:
        assert first == floor(first, span)
    assert sum(span == Span.DAY for span, _, _ in found) <= 1
    if found:
        assert (
            timedelta(0)
            <= start - found[0][1]
            < (LENGTHS[Span.HOUR] if start < NOW - MINUTES_READABLE else LENGTHS[Span.MINUTE])
        )
        assert timedelta(0) <= end - found[-1][2] < LENGTHS[Span.HOUR]


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMED)
def test_a_named_time_has_the_calls_in_it_and_no_others(name: str) -> None:
    length = NAMED[name]
    grain = timedelta(minutes=1) if length <= timedelta(days=1) else timedelta(hours=1)
    inside = [NOW - timedelta(seconds=5), NOW - length / 2, NOW - length + grain]
    before = [NOW - length - grain, NOW - 2 * length + grain]
    outside = [NOW - 2 * length - grain]
    rows = [call(moment, key_name="in" if moment in inside else "out") for moment in (*inside, *before, *outside)]
    write_rows(Pricer().priced(rows))
    time_range = read_range({"range": name}, NOW)

    now = read_totals(time_range.start, time_range.end, NOW)
    assert (now.calls, now.input_tokens, sum(now.histograms["duration_ms"])) == (3, 3000, 3)
    assert read_totals(time_range.before.start, time_range.before.end, NOW).calls == 2
    by_key = read_by_value([Dimension.KEY], time_range.start, time_range.end, NOW)
    assert {key: totals.calls for key, totals in by_key["key"].items()} == {"in": 3}
    durations = read_durations({"key": ["in", "out"]}, time_range.start, time_range.end, NOW)
    assert durations == {"key": {"in": now.histograms["duration_ms"]}}


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMED)
def test_a_charts_bins_have_every_call_of_the_time_once(name: str) -> None:
    time_range = read_range({"range": name}, NOW)
    moments = [time_range.start + time_range.length * number / 40 for number in range(1, 40)]
    write_rows([call(moment, outcome="timeout" if number % 3 else "success") for number, moment in enumerate(moments)])
    span, step = time_range.bins(NOW)
    series = read_series(time_range.start, time_range.end, span, step, {Dimension.OUTCOME: "calls"})
    bins = series.bins

    assert 24 <= len(bins) <= 61
    assert bins[0] <= time_range.start < bins[1]
    assert bins[-1] < time_range.end <= bins[-1] + step
    for moment, following in zip(bins, [*bins[1:], NOW], strict=True):
        totals = series.everything[bins.index(moment)]
        assert (totals.calls if totals else 0) == sum(moment <= one < following for one in moments)
    assert sum(series.by_value[Dimension.OUTCOME]["timeout"]) == 26


@pytest.mark.parametrize(
    "query",
    [{"range": "year"}, {"from": "yesterday"}, {"from": "2026-11-02T00:00", "to": "2026-11-01T00:00"},
     {"from": "0001-01-01"}, {"from": "9999-12-31T23:59:59+00:01"}, {"from": "1990-01-01", "to": "2026-01-01"}],
    ids=str,
)  # fmt: skip
def test_a_time_that_is_none_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_range(query, NOW)


def test_a_time_of_ones_own() -> None:
    time_range = read_range({"from": "2026-11-01T00:00", "to": "2026-11-03T02:00+02:00"}, NOW)

    assert time_range == TimeRange("custom", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC))
    assert time_range.bins(NOW) == (Span.HOUR, timedelta(hours=1))
