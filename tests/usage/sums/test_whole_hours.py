"""A range of time that is extended to whole hours, and the range before it, whatever its ends and whenever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, reject
from hypothesis import strategies as st

from usage.models import Span
from usage.page_data.dashboard.dashboard_reader import MAX_ROUNDED_SHARE, range_before
from usage.sums.ranges import LABELS, LONGEST, TimeRange, read_range
from usage.sums.totals_reader import MINUTES_READABLE, floor

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOWS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  the time zone is given
LENGTHS = st.integers(1, 600) | st.integers(1, 10**6) | st.integers(1, int(LONGEST.total_seconds()))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[TimeRange, datetime]:
    """Draws a range as a page reads it, and the time now; it has a name, no end, or an end in the past or future."""
    now = draw(NOWS)
    start = now - timedelta(seconds=draw(LENGTHS))
    end = start + timedelta(seconds=draw(LENGTHS))
    query = {"from": f"{start:%Y-%m-%dT%H:%M:%S}", "to": draw(st.sampled_from(["", f"{end:%Y-%m-%dT%H:%M:%S}"]))}
    try:
        return read_range(draw(st.sampled_from([query, query, *({"range": name} for name in LABELS)])), now), now
    except ValueError:
        reject()


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


@given(ranges(), st.booleans())
def test_it_is_compared_with_a_range_of_the_same_length_or_with_none(
    drawn: tuple[TimeRange, datetime], of_key: bool
) -> None:
    time_range, now = drawn
    time_range = time_range.in_hours(now) if of_key else time_range
    before = time_range.before
    start, end = range_before(time_range, now)

    assert before.end <= time_range.start
    assert start <= end <= time_range.start
    assert start == floor(start, Span.MINUTE if before.start >= now - MINUTES_READABLE else Span.HOUR)
    assert start == end or abs(end - start - before.length) <= MAX_ROUNDED_SHARE * before.length
    assert start < end or before.length < timedelta(days=2)
