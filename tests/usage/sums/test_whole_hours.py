"""A range of time that is extended to whole hours, whatever its ends and whenever it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given

from tests.support.ledger.drawn_ranges import ranges
from usage.models import Span
from usage.sums.ranges import LONGEST, TimeRange, read_range
from usage.sums.totals_reader import MINUTES_READABLE, floor

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@given(ranges())
def test_it_has_the_whole_hours_at_its_ends_and_can_be_read_again(drawn: tuple[TimeRange, datetime]) -> None:
    time_range, now = drawn
    found = time_range.in_hours(now)

    assert floor(found.start, Span.HOUR) == found.start <= time_range.start < found.start + HOUR
    assert found.end - HOUR < time_range.end <= found.end == floor(found.end, Span.HOUR)
    assert found.in_hours(now) == found
    assert (found.name, found.is_open) == (time_range.name, time_range.is_open)
    assert found.counted == max(min(found.end, now) - found.start, MINUTE)
    assert timedelta(0) < found.bins(now)[1]
    if found.length <= LONGEST:
        again = read_range(found.as_times(), now)
        assert (again.start, again.end, again.counted) == (found.start, found.end, found.counted)


@given(ranges())
def test_it_is_read_again_as_it_is_stated(drawn: tuple[TimeRange, datetime]) -> None:
    time_range, now = drawn

    assert read_range(time_range.as_query(), now) == time_range
    if not time_range.is_open:
        again = read_range(time_range.as_times(), now)
        assert again.start == time_range.start
        assert timedelta(0) <= again.end - time_range.end < MINUTE or time_range.end < now - MINUTES_READABLE
