"""What pages compare: equally long spans of both periods, at any moment; or they say why they compare nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger.drawn_ranges import ranges
from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, USAGE, make_call, stated_period, text_of, tiles
from tests.support.moved_clock import Traveller
from usage.journal_shipping.rows import write_rows
from usage.models import Span
from usage.money.row_pricing import Pricer
from usage.page_data.comparison import Comparison, Times, compare
from usage.page_data.formatting import THIN
from usage.sums.ranges import LABELS, TimeRange, read_range
from usage.sums.totals_reader import LENGTHS, MINUTES_READABLE, floor

# Mondays, first days of a month and of a year, days after a 31st, leap days, and the days on which clocks change in
# Europe: each at the first moment, in the first hour, at a whole hour, at noon, and at the last moment.
DAYS = ["2026-11-30", "2026-12-01", "2026-03-31", "2026-03-01", "2027-01-01", "2024-02-29", "2026-10-25", "2026-03-29"]
CLOCKS = ["00:00:00", "00:00:40", "00:30:00", "01:00:00", "12:17:20", "23:59:59"]
MOMENTS = [f"{day}T{clock}" for day in DAYS for clock in CLOCKS]
NONE = "No change is shown"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def is_month(times: Times) -> bool:
    start, end = times
    return start == floor(start, Span.MONTH) and end == floor(start + timedelta(days=31), Span.MONTH) == end


def assert_fair(found: Comparison, shown: TimeRange, now: datetime) -> None:
    """Asserts that both spans are over, equally long, and in their periods; or that the comparison says a reason."""
    (start, end), (earlier, until) = found.shown, found.before
    assert shown.start <= start <= end <= max(now, start)
    assert earlier <= until <= shown.start
    assert (start == end) == (earlier == until) == bool(found.reason) == (not found.is_possible)
    assert end - start == until - earlier or (is_month(found.shown) and is_month(found.before))
    assert (found.words == found.reason) if found.reason else found.words.startswith("Changes compare ")


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("clock", MOMENTS)
def test_equal_spans_are_compared_or_none(name: str, clock: str) -> None:
    now = utc(clock)
    shown = read_range({"range": name}, now)
    found = compare(shown, now)

    assert_fair(found, shown, now)
    assert_fair(compare(shown, now, Span.DAY), shown, now)
    # Only in its first minute a day has nothing to compare; what began longer ago, in its first hour.
    first = timedelta(minutes=1) if name == "today" else timedelta(hours=1)
    goes_on = name in ("today", "this_week", "this_month")
    assert found.is_possible == (not goes_on or now - shown.start >= first)
    assert found.shown[1] + timedelta(hours=1) > min(shown.end, now) or found.before[1] == shown.start


@given(ranges(), st.booleans(), st.sampled_from([None, Span.HOUR, Span.DAY]))
def test_so_it_is_of_any_range(drawn: tuple[TimeRange, datetime], of_key: bool, unit: Span | None) -> None:
    time_range, now = drawn
    shown = time_range.in_hours(now) if of_key else time_range
    found = compare(shown, now, unit)

    assert_fair(found, shown, now)
    least = unit or (Span.MINUTE if found.before[0] >= now - MINUTES_READABLE else Span.HOUR)
    for moment in (*found.shown, *found.before) if found.is_possible else ():
        assert moment == floor(moment, least)
    if shown.end <= now:
        assert found.is_possible or shown.length < 2 * LENGTHS[least]


@pytest.mark.parametrize(
    ("query", "clock", "words"),
    [
        (
            {"range": "this_week"}, "2026-11-30T00:30",
            "No change is shown yet: whole hours are compared, the first from 01:00 UTC",
        ),
        (
            {"range": "this_week"}, "2026-11-30T12:17",
            "Changes compare 2026-11-30 00:00 to 12:00 with 2026-11-23 00:00 to 12:00, UTC",
        ),
        (
            {"range": "today"}, "2026-11-30T00:00:20",
            "No change is shown yet: whole minutes are compared, the first from 00:01 UTC",
        ),
        (
            {"range": "last_month"}, "2026-03-05T12:17",
            "Changes compare 2026-02-01 to 2026-02-28 (28 days) with 2026-01-01 to 2026-01-31 (31 days), UTC",
        ),
        (
            {"range": "this_month"}, "2026-03-31T12:17",
            "Changes compare 2026-03-01 to 2026-03-28 with 2026-02-01 to 2026-02-28, UTC",
        ),
        (
            {"from": "2026-12-05", "to": "2026-12-06"}, "2026-11-30T12:17",
            "No change is shown yet: whole minutes are compared, the first from 2026-12-05 00:01 UTC",
        ),
        (
            {"from": "2026-11-28T12:10", "to": "2026-11-28T12:50"}, "2026-12-01T00:05",
            "No change is shown: whole hours are compared, and this period has none",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_words(query: dict[str, str], clock: str, words: str) -> None:
    now = utc(clock)
    assert compare(read_range(query, now), now).words == words


@pytest.mark.django_db
@pytest.mark.parametrize("clock", ["2026-11-30T00:00", "2026-11-30T00:30", "2026-12-01T12:17", "2026-03-31T23:59"])
def test_pages_show_the_sums_of_the_spans_that_they_state(admin: Client, time_machine: Traveller, clock: str) -> None:
    now = utc(clock)
    time_machine.move_to(now.timestamp(), tick=False)
    moments = [now - timedelta(hours=5 * number, minutes=7, seconds=number) for number in range(450)]
    moments += [now - timedelta(minutes=17 * number, seconds=5) for number in range(20)]
    write_rows(Pricer().priced([call(at) for at in moments]))

    def count(text: str) -> int:
        start, end = stated_period(text)
        return sum(start <= at < end for at in moments)

    for name in LABELS:
        page = admin.get(DASHBOARD, {"range": name}).content.decode()
        tile = tiles(page)["calls"]
        if found := re.search(r"Changes compare (.*?) with (.*?), UTC", text_of(page)):
            calls = int(tile.removeprefix("Calls ").partition(" ")[0])
            said = re.search(r" from (\d+)(?: to (\d+))?", tile)
            assert said, (name, tile)
            assert (count(found[2]), count(found[1])) == (int(said[1]), int(said[2] or calls)), name
        else:
            assert NONE in text_of(page), name
            assert " from " not in tile, name

        answer = admin.get(USAGE, {"range": name, "by": "key"})
        spending, text = answer.context["spending"], text_of(answer.content.decode())
        a_call = read_dollars(spending.total.cost) / spending.total.calls if spending.total.calls else 0
        if found := re.search(r"Changes compare (.*?) with (.*?), UTC\.", text):
            figures = spending.total.before, spending.total.compared or spending.total.cost
            for figure, period in zip(figures, (found[2], found[1]), strict=True):
                assert read_dollars(figure) == pytest.approx(count(period) * a_call, rel=0.01), name
        else:
            assert f"{NONE} yet: whole days are compared" in text, name
            assert [head.label for head in answer.context["heads"]][-1] == "Cost", name
        if same := spending.same_hours:
            assert same.reason.startswith(NONE) or (stated_period(same.period)[1] <= now and same.reason == ""), name
            if not same.reason:
                for figure, period in ((same.cost, same.period), (same.cost_before, same.period_before)):
                    assert read_dollars(figure) == pytest.approx(count(period) * a_call, rel=0.01), name


@pytest.mark.django_db
@pytest.mark.parametrize("address", [DASHBOARD, USAGE])
def test_nothing_is_compared_with_a_period_in_which_counting_began(
    admin: Client, time_machine: Traveller, address: str
) -> None:
    time_machine.move_to(utc("2026-12-09T12:00").timestamp(), tick=False)
    query = {"range": "2026-11", "by": "model"}
    for day in (10, 11, 12):
        make_call(started_at=utc(f"2026-11-{day}"))
    make_call(started_at=utc("2026-10-31T09:00"))
    answer = admin.get(address, query)
    page = text_of(answer.content.decode())
    assert "No change is shown: calls are counted since 2026-10-31, and the period before began on 2026-10-01" in page
    assert "Changes compare" not in page
    if address == USAGE:
        assert [head.label for head in answer.context["heads"]][-1] == "Cost"
    else:
        assert tiles(answer.content.decode())["calls"].startswith("Calls 3 0.1 a day")

    make_call(started_at=utc("2026-10-01T09:00"))  # since the first day
    assert "Changes compare 2026-11-01" in text_of(admin.get(address, query).content.decode())


@pytest.mark.django_db
def test_nothing_is_compared_before_the_first_hour_with_calls_is_over(admin: Client, time_machine: Traveller) -> None:
    """Then there are no calls in either span, and the ledger has some nevertheless."""
    time_machine.move_to(utc("2026-12-01T14:52").timestamp(), tick=False)
    make_call(started_at=utc("2026-12-01T14:50"))
    answer = admin.get(USAGE, {"range": "this_month", "by": "key"})
    page = text_of(answer.content.decode())
    assert "No change is shown: calls are counted since 2026-12-01, and the period before began on 2026-11-01" in page
    assert "Of this" not in page
    for address in (DASHBOARD, f"{DASHBOARD}?key=default"):
        assert "Changes compare" not in text_of(admin.get(address, {"range": "this_month"}).content.decode())


def read_dollars(text: str) -> float:
    return float(text.replace("$", "").replace(THIN, "").replace(",", ""))
