"""Calendar months and days: where they begin and end, what they are compared with, and that each call is in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_all, read_key
from usage.sums.ranges import CUSTOM, LABELS, TimeRange, range_labels, read_range
from usage.sums.report_reader import read_report


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOON = "2026-11-28T12:00"
# The name, the time now; start and end; start and end of the time that it is compared with.
CASES = [
    ("today", NOON, "2026-11-28", NOON, "2026-11-27", "2026-11-27T12:00"),
    ("yesterday", NOON, "2026-11-27", "2026-11-28", "2026-11-26", "2026-11-27"),
    ("this_week", NOON, "2026-11-23", NOON, "2026-11-16", "2026-11-21T12:00"),
    ("this_week", "2026-11-30", "2026-11-30", "2026-11-30T00:01", "2026-11-23", "2026-11-23T00:01"),
    ("last_week", NOON, "2026-11-16", "2026-11-23", "2026-11-09", "2026-11-16"),
    ("last_week", "2026-11-30", "2026-11-23", "2026-11-30", "2026-11-16", "2026-11-23"),
    ("this_month", NOON, "2026-11-01", NOON, "2026-10-01", "2026-10-28T12:00"),
    ("last_month", NOON, "2026-10-01", "2026-11-01", "2026-09-01", "2026-10-01"),
    ("2026-11", NOON, "2026-11-01", NOON, "2026-10-01", "2026-10-28T12:00"),
    ("2026-02", NOON, "2026-02-01", "2026-03-01", "2026-01-01", "2026-02-01"),
    ("2026-11-28", NOON, "2026-11-28", NOON, "2026-11-27", "2026-11-27T12:00"),
    ("2025-12-31", NOON, "2025-12-31", "2026-01-01", "2025-12-30", "2025-12-31"),
    ("last_month", "2027-01-31T23:59", "2026-12-01", "2027-01-01", "2026-11-01", "2026-12-01"),
    # A leap day, before it, on it and after it.
    ("2024-02", NOON, "2024-02-01", "2024-03-01", "2024-01-01", "2024-02-01"),
    ("2024-03", NOON, "2024-03-01", "2024-04-01", "2024-02-01", "2024-03-01"),
    ("today", "2024-02-29T06:00", "2024-02-29", "2024-02-29T06:00", "2024-02-28", "2024-02-28T06:00"),
    ("yesterday", "2024-03-01T06:00", "2024-02-29", "2024-03-01", "2024-02-28", "2024-02-29"),
    # More of a month has passed than the month before had.
    ("this_month", "2026-03-31T12:00", "2026-03-01", "2026-03-31T12:00", "2026-02-01", "2026-03-01"),
    # The first moment of a month is a minute of it.
    ("this_month", "2026-12-01", "2026-12-01", "2026-12-01T00:01", "2026-11-01", "2026-11-01T00:01"),
    ("last_month", "2026-12-01", "2026-11-01", "2026-12-01", "2026-10-01", "2026-11-01"),
]


@pytest.mark.parametrize(("name", "now", "start", "end", "before_start", "before_end"), CASES)
def test_it_works(name: str, now: str, start: str, end: str, before_start: str, before_end: str) -> None:
    found = read_range({"range": name}, utc(now))

    assert found == TimeRange(name, utc(start), utc(end))
    assert found.before == TimeRange(CUSTOM, utc(before_start), utc(before_end))
    assert found.as_query() == {"range": name}


@pytest.mark.parametrize(
    ("end", "before_end"),
    [(NOON, "2026-11-28"), ("2026-11-29", "2026-11-27T12:00"), ("2026-12-28", "2026-10-29T12:00")],
)
def test_chosen_times_that_go_on_are_compared_with_the_same_part(end: str, before_end: str) -> None:
    found = read_range({"from": "2026-11-28", "to": end}, utc(NOON))
    assert found.before == TimeRange(CUSTOM, utc("2026-11-28") - found.length, utc(before_end))


def test_times_that_have_not_begun_are_compared_with_a_minute() -> None:
    assert read_range({"from": "2026-12-01", "to": "2026-12-02"}, utc(NOON)).before.length == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("name", "why"),
    [("2026-12", "has not begun"), ("2026-11-29", "has not begun"), ("2026-13", "is no time"),
     ("2026-02-30", "is no time"), ("1970-12", "Times lie between"), ("26-11", "last_month")],
)  # fmt: skip
def test_a_month_that_is_none_is_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_range({"range": name}, utc(NOON))


@pytest.mark.parametrize("end", ["2026-11-28T10:00:30", "2026-11-28T10:00:40"])
def test_times_within_a_minute_are_not_read_backwards(end: str) -> None:
    with pytest.raises(ValueError, match="begin before it ends"):
        read_range({"from": "2026-11-28T10:00:40", "to": end}, utc(NOON))


def test_a_page_offers_the_month_that_it_shows() -> None:
    assert range_labels() == range_labels("today") == range_labels("nonsense") == LABELS
    assert range_labels("2026-02") == {**LABELS, "2026-02": "2026-02"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "now", "edges"),
    [
        ("last_month", "2026-03-05T09:30", ("2026-02-01", "2026-03-01")),
        ("2024-02", "2026-03-05T09:30", ("2024-02-01", "2024-03-01")),
        ("2024-02-29", "2026-03-05T09:30", ("2024-02-29", "2024-03-01")),
        ("this_month", "2026-03-05T09:30", ("2026-03-01", "2026-03-05T09:30")),
        ("yesterday", "2026-03-05T09:30", ("2026-03-04", "2026-03-05")),
    ],
)
def test_its_sums_have_the_calls_in_it_and_no_others(name: str, now: str, edges: tuple[str, str]) -> None:
    """The calls are a millisecond from the edges; dashboards of all calls and of a key, and the report, agree."""
    moment, (start, end) = utc(now), map(utc, edges)
    instant = timedelta(milliseconds=1)
    inside = [start, start + instant, end - instant]
    long_before = start - timedelta(days=70)  # nothing is compared with days before the first call
    outside = [long_before, start - instant, *([] if end == moment else [end])]
    write_rows(Pricer().priced([call(at) for at in (*inside, *outside)]))
    time_range = read_range({"range": name}, moment)

    everything, of_key = read_all(time_range, moment), read_key("default", time_range, moment)
    assert [reading.totals.calls for reading in (everything, of_key)] == [3, 3]
    assert everything.totals.cost == of_key.totals.cost > 0
    assert [reading.before.calls for reading in (everything, of_key)] == [int(name != "this_month")] * 2
    total = read_report(time_range)["total"]
    assert (total["calls"], total["cost"]) == (3, float(everything.totals.cost))
