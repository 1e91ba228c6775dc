"""Dashboards of ranges that have hardly begun, and of ranges of long ago that are shorter than an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_all, read_key
from usage.page_data.errors.error_groups import read_groups
from usage.sums.ranges import LABELS, LONGEST, read_range

NOW = datetime(2026, 11, 24, 15, 7, 31, tzinfo=UTC)
# A Monday, the first of a month and of a year: at its first moment, in its first hour, and just before the end of that.
FIRST_HOURS = [
    begun + since
    for begun in (
        datetime(2026, 11, 30, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    for since in (timedelta(0), timedelta(seconds=30), timedelta(minutes=20), timedelta(minutes=59, seconds=59))
]


@pytest.mark.django_db
@pytest.mark.parametrize("now", FIRST_HOURS, ids=str)
@pytest.mark.parametrize("name", LABELS)
def test_every_range_can_be_read(name: str, now: datetime) -> None:
    moments = [now - timedelta(milliseconds=1), now]
    write_rows(Pricer().priced([call(moment) for moment in moments]))
    time_range = read_range({"range": name}, now)

    in_range = sum(time_range.start <= moment < time_range.end for moment in moments)
    assert read_all(time_range, now).totals.calls >= in_range
    assert read_key("default", time_range, now).totals.calls >= in_range
    assert read_groups(time_range) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("first", "last", "hours"),
    [("09:10", "09:40", 1), ("09:40", "10:20", 2), ("09:00", "10:00", 1), ("09:59", "10:00", 1)],
)
def test_a_range_of_long_ago_has_the_whole_hours_at_its_ends(first: str, last: str, hours: int) -> None:
    day = datetime(2026, 11, 10, tzinfo=UTC)
    write_rows(Pricer().priced([call(day + timedelta(hours=9, minutes=minute)) for minute in (0, 25, 59, 61)]))
    time_range = read_range({"from": f"2026-11-10T{first}", "to": f"2026-11-10T{last}"}, NOW)

    assert time_range.as_query() == {"from": "2026-11-10T09:00", "to": f"2026-11-10T{9 + hours:02}:00"}
    calls = {1: 3, 2: 4}[hours]
    assert read_all(time_range, NOW).totals.calls == read_key("default", time_range, NOW).totals.calls == calls


@given(st.integers(1, 10**9), st.integers(1, int(LONGEST.total_seconds())))
def test_a_range_that_is_not_refused_can_be_divided(seconds_ago: int, seconds: int) -> None:
    start, length = NOW - timedelta(seconds=seconds_ago), timedelta(seconds=seconds)
    query = {"from": f"{start:%Y-%m-%dT%H:%M:%S}", "to": f"{start + length:%Y-%m-%dT%H:%M:%S}"}
    try:
        time_range = read_range(query, NOW)
    except ValueError:  # only if the whole hours at its ends make it too long, or seconds are cut off
        assert length > LONGEST - timedelta(hours=2) or length < timedelta(seconds=2)
        return
    assert time_range.length <= LONGEST
    assert timedelta(0) < time_range.bins(NOW)[1] <= timedelta(days=28)


@pytest.mark.parametrize("minutes", [0, 1, 30, 59])
def test_the_longest_range_is_refused_or_can_be_divided(minutes: int) -> None:
    start = datetime(2016, 11, 10, 9, minutes, tzinfo=UTC)
    query = {"from": start.isoformat(), "to": (start + LONGEST).isoformat()}
    if minutes:
        with pytest.raises(ValueError, match="ten years"):
            read_range(query, NOW)
    else:
        read_range(query, NOW).bins(NOW)
