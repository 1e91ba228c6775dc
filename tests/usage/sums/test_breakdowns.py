"""Reports and the pages of a key are the same, whether they are read from months and days or from hours alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from tests.support.ledger.ledgers import random_call
from usage.journal_shipping.rows import write_rows
from usage.models import Dimension, ErrorTotal, Span, UsageBreakdown, UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_durations_of_key, read_key
from usage.page_data.errors.error_groups import read_groups
from usage.sums.ranges import CUSTOM, TimeRange
from usage.sums.report_reader import GROUPS, read_report
from usage.sums.totals_reader import complete_months, read_by_value, read_durations, read_totals
from usage.upkeep.rebuild_totals import rebuild_totals

pytestmark = pytest.mark.django_db

START, END = datetime(2026, 7, 20, 7, tzinfo=UTC), datetime(2026, 12, 3, 17, tzinfo=UTC)
MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in range(7, 13)]
RANGES = [
    TimeRange(CUSTOM, *(datetime.fromisoformat(f"2026-{moment}:00Z") for moment in ends))
    for ends in [
        ("07-25T03", "12-03T17"),
        ("08-01T00", "12-01T00"),
        ("08-31T23", "11-01T01"),
        ("11-03T05", "12-03T05"),
        ("09-10T10", "09-11T10"),
        ("09-01T00", "10-01T00"),
    ]
]
GROUPINGS: list[tuple[str, ...]] = [(), *((name,) for name in GROUPS), ("day", "model"), ("key", "route", "outcome")]


@pytest.fixture(autouse=True)
def _calls() -> None:
    chance = random.Random(1)
    minutes = int((END - START) / timedelta(minutes=1))
    rows = [random_call(chance, START + timedelta(minutes=chance.randrange(minutes))) for _ in range(400)]
    for row in rows:
        row["duration_ms"] = float(chance.randrange(1, 9000))  # whole numbers are added up exactly, in every order
    write_rows(Pricer().priced(rows))


def numbers(time_range: TimeRange) -> list[Any]:
    """Returns all that pages and reports show of a range of time."""
    start, end = time_range.start, time_range.end
    reports = [read_report(time_range, groups) for groups in GROUPINGS]
    reports += [read_report(time_range, groups, key="default") for groups in GROUPINGS]
    reports += [read_report(time_range, groups, only={"key": "default", "outcome": "timeout"}) for groups in GROUPINGS]
    wanted: dict[str, Sequence[str]] = {"model": ["gpt-4o-mini-2024-07-18"], "route": ["/openai"]}
    errors = [(group.kind, group.calls, group.parts, group.counts, group.trend) for group in read_groups(time_range)]
    return [
        *reports,
        read_key("default", time_range, END),
        read_durations_of_key("default", time_range, wanted),
        read_totals(start, end, END),
        read_by_value([Dimension.KEY, Dimension.MODEL], start, end, END),
        read_durations(wanted, start, end, END),
        sorted(errors, key=str),
    ]


@pytest.mark.parametrize("time_range", RANGES, ids=lambda one: f"{one.start:%m-%d %H} to {one.end:%m-%d %H}")
def test_sums_of_months_and_days_are_those_of_hours(time_range: TimeRange) -> None:
    assert complete_months(START, END, partly=True) == MONTHS
    found = numbers(time_range)
    UsageBreakdown.objects.all().delete()
    for model in (UsageTotal, ErrorTotal):
        model.objects.filter(span=Span.MONTH).delete()
    assert complete_months(START, END, partly=True) == []
    assert numbers(time_range) == found


def test_without_hours_whole_days_are_still_known() -> None:
    whole = TimeRange(CUSTOM, datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 12, 3, tzinfo=UTC))
    found = [read_report(whole, groups) for groups in GROUPINGS if "hour" not in groups]
    UsageHour.objects.all().delete()
    assert [read_report(whole, groups) for groups in GROUPINGS if "hour" not in groups] == found


@pytest.mark.parametrize("column", ["calls", "errors", "cost"])
def test_calls_that_an_older_version_has_added_are_seen(column: str) -> None:
    """It adds them to hours and days, and not to months."""
    days = UsageTotal.objects.filter(span=Span.DAY, start__gte=MONTHS[2], start__lt=MONTHS[3])
    days.filter(dimension=Dimension.ALL).update(**{column: F(column) + 1})
    assert complete_months(START, END, partly=True) == [month for month in MONTHS if month != MONTHS[2]]
    assert complete_months(START, END) == [MONTHS[1], *MONTHS[3:5]]


def test_what_older_versions_have_not_written_is_filled() -> None:
    before = [numbers(time_range) for time_range in RANGES]
    UsageBreakdown.objects.all().delete()
    for model in (UsageTotal, ErrorTotal):
        model.objects.filter(span=Span.MONTH).delete()
    rebuild_totals(END)
    assert complete_months(START, END, partly=True) == MONTHS
    assert [numbers(time_range) for time_range in RANGES] == before


def test_a_key_sees_no_calls_of_another_one() -> None:
    report = read_report(RANGES[0], ("key",), key="default", only={"key": "größe"})
    assert (report["total"]["calls"], report["groups"]) == (0, [])
