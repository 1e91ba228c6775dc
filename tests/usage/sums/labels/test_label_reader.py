"""Sums by what calls were for, in any two groups: equal to the rows to the cent, with the others and the total."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from tests.support.ledger.ledgers import NOON, call, random_call
from usage.journal_shipping.rows import write_rows
from usage.models import LabelTotal, LedgerState, Request, UsageTotal
from usage.money.row_pricing import Pricer
from usage.sums.labels import label_reader
from usage.sums.labels.label_groups import LabelsUnreadable
from usage.sums.labels.label_reader import LabelReport, read_label_report, whole_days
from usage.sums.labels.label_tables import END_USER, OTHERS, SUMS
from usage.sums.ranges import TimeRange
from usage.upkeep.label_sums import folding
from usage.upkeep.rebuild_totals import rebuild_totals

pytestmark = pytest.mark.django_db

FIRST, END = date(2026, 9, 20), date(2026, 12, 5)  # two whole months between days
GROUPS: dict[str, Callable[[Request], Any]] = {
    "team": lambda row: row.team,
    "owner": lambda row: row.owner,
    "key": lambda row: row.key_name,
    "model": lambda row: "(unknown model)" if row.unknown_model else row.response_model or row.request_model,
    "route": lambda row: row.route,
    "day": lambda row: row.started_at.astimezone(UTC).date(),
    END_USER: lambda row: row.end_user or None,
    "tag:project": lambda row: value_of(row, "project"),
    "tag:a": lambda row: value_of(row, "a"),
}


def value_of(row: Request, name: str) -> str | None:
    found = [tag.partition("=")[2] for tag in row.tags if tag.partition("=")[0] == name]
    return found[0] if found else None


def write(*rows: Any) -> None:
    write_rows(Pricer().priced(rows))


def write_random(count: int, days: int = 90) -> list[Request]:
    chance = random.Random(7)
    first = datetime(2026, 9, 12, tzinfo=UTC)
    write(*(random_call(chance, first + timedelta(hours=chance.randrange(24 * days))) for _ in range(count)))
    return list(Request.objects.all())


def expected(rows: list[Request], groups: tuple[str, ...], first: date, end: date) -> dict[Any, list[Any]]:
    """The sums of the rows in the simplest way: calls, errors, unpriced calls, tokens and dollars of each group."""
    found: dict[Any, list[Any]] = defaultdict(lambda: [0] * len(SUMS))
    for row in rows:
        if first <= row.started_at.astimezone(UTC).date() < end:
            cost = row.cost or Decimal(0)
            figures = (
                1, row.outcome != "success", row.cost is None and row.price is None, row.input_tokens or 0,
                row.cached_tokens or 0, row.output_tokens or 0, cost, cost * (row.cost_kind == "estimated"),
                cost * (row.cost_kind == "provisional"),
            )  # fmt: skip
            sums = found[tuple(GROUPS[name](row) for name in groups)]
            sums[:] = [one + other for one, other in zip(sums, figures, strict=True)]
    return {group: sums for group, sums in found.items() if any(sums)}


def told(report: LabelReport) -> dict[Any, list[Any]]:
    return {row.group: [getattr(row, name) for name in SUMS] for row in report.rows}


def test_every_two_groups_equal_their_rows() -> None:
    rows = write_random(400)
    for groups in [(), *((name,) for name in GROUPS), *combinations(GROUPS, 2)]:
        is_of_rows = len([name for name in groups if name in (END_USER, "tag:project", "tag:a")]) == 2
        first = date(2026, 11, 10) if is_of_rows else FIRST
        report = read_label_report(first, END, groups, most=10_000)
        assert told(report) == expected(rows, groups, first, END), groups
        assert report.others is None
        [total] = expected(rows, (), first, END).values()
        assert [getattr(report.total, name) for name in SUMS] == total


def test_the_total_is_that_of_the_dashboard() -> None:
    write_random(100)
    report = read_label_report(date(2026, 9, 1), date(2027, 1, 1), (END_USER, "model"), most=3)
    days = UsageTotal.objects.filter(span="day", dimension="all")
    assert report.total.cost == sum(day.cost for day in days)
    assert report.total.calls == sum(day.calls for day in days)


def test_the_costliest_come_first_and_the_rest_is_one_row() -> None:
    rows = write_random(200)
    whole = read_label_report(FIRST, END, ("team", "model"), most=10_000)
    cut = read_label_report(FIRST, END, ("team", "model"), most=2)
    assert cut.rows == whole.rows[:2]
    assert [row.cost for row in whole.rows] == sorted((row.cost for row in whole.rows), reverse=True)
    assert cut.others is not None
    assert sum(row.cost for row in cut.rows) + cut.others.cost == cut.total.cost
    assert cut.total.calls == sum(sums[0] for sums in expected(rows, (), FIRST, END).values())


@pytest.mark.parametrize(
    ("only", "keeps"),
    [
        ({"team": "red"}, lambda row: row.team == "red"),
        ({"key": "größe", "model": "(unknown model)"}, lambda row: row.key_name == "größe" and row.unknown_model),
        ({END_USER: "user-1"}, lambda row: row.end_user == "user-1"),
        ({"tag:project": "x"}, lambda row: value_of(row, "project") == "x"),
        ({"tag:project": None}, lambda row: value_of(row, "project") is not None),
        ({"tag:a": "", "team": "red"}, lambda row: value_of(row, "a") == "" and row.team == "red"),
        ({"tag:a": None, END_USER: "user-1"}, lambda row: value_of(row, "a") == "" and row.end_user == "user-1"),
    ],
)
@pytest.mark.parametrize("groups", [(), ("owner",), ("tag:project", "owner"), (END_USER,)])
def test_a_filter_leaves_its_calls(
    only: dict[str, str | None], keeps: Callable[[Request], bool], groups: tuple[str, ...]
) -> None:
    rows = [row for row in write_random(200) if keeps(row)]
    first = date(2026, 11, 10)
    report = read_label_report(first, END, groups, only=only, most=10_000)
    assert told(report) == (expected(rows, groups, first, END) if groups else told(report))
    assert report.total.calls == sum(sums[0] for sums in expected(rows, (), first, END).values())


def test_folded_names_are_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_VALUES", 1)
    write(*(call(NOON, end_user=name, output_tokens=tokens) for name, tokens in (("a", 9), ("b", 5), ("c", 3))))
    write(call(NOON))
    folding.fold_labels(NOON + timedelta(days=60))
    report = read_label_report(NOON.date(), NOON.date() + timedelta(days=1), (END_USER,), most=10)
    assert {row.group[0]: row.calls for row in report.rows} == {"a": 1, OTHERS: 2, None: 1}
    assert label_reader.shown_value(END_USER, OTHERS) == "(other end users)"
    assert report.total.cost == sum(row.cost or Decimal(0) for row in Request.objects.all())


def test_what_has_no_sums_of_its_own_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_VALUES", 1)
    monkeypatch.setattr(folding, "MOST_TAG_NAMES", 1)
    for name, tokens in (("a", 9), ("b", 5), ("c", 3)):
        write(call(NOON, end_user=name, tags=[f"{name}=x"], output_tokens=tokens))
    first, end = NOON.date(), NOON.date() + timedelta(days=1)

    def is_part(*groups: str, **only: str | None) -> bool:
        return read_label_report(first, end, groups, only=only, most=10).is_part

    assert not is_part(end_user="b")
    folding.fold_labels(NOON + timedelta(days=60))
    assert [is_part(end_user=name) for name in ("a", "b", "new")] == [False, True, True]
    assert [is_part(END_USER), is_part("team"), is_part(END_USER, end_user=None)] == [False] * 3
    assert [is_part("tag:a"), is_part("tag:b"), is_part(**{"tag:c": None})] == [False, True, True]


def test_calls_of_older_code_that_the_sums_lack_are_said() -> None:
    first, end = date(2026, 9, 20), date(2026, 12, 5)
    for day in (first, date(2026, 10, 7), date(2026, 11, 3)):
        write(call(datetime(day.year, day.month, day.day, 12, tzinfo=UTC), end_user="a", tags=["project=x"]))

    def since(*groups: str, end: date = end) -> date | None:
        return read_label_report(first, end, groups, most=10).lacks_since

    assert [since(), since("team", "day"), since(END_USER)] == [None] * 3
    LabelTotal.objects.filter(start__gte=date(2026, 11, 1)).delete()  # older code has written these calls
    assert [since(), since("team"), since("day")] == [date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 3)]
    assert since(end=date(2026, 11, 1)) is None
    assert read_label_report(date(2026, 11, 5), end, (END_USER, "tag:project"), most=10).lacks_since is None  # rows
    rebuild_totals(NOON)
    assert since() is None


def test_two_labels_need_the_rows() -> None:
    with pytest.raises(LabelsUnreadable, match="33 days"):
        read_label_report(FIRST, END, (END_USER, "tag:project"), most=10)
    LedgerState.load()
    LedgerState.objects.update(pruned_before=NOON - timedelta(days=1))
    with pytest.raises(LabelsUnreadable, match="deleted"):
        read_label_report(date(2026, 10, 20), date(2026, 10, 25), (END_USER, "tag:project"), most=10)


def test_whole_months_are_read_as_months() -> None:
    write_random(50)
    LabelTotal.objects.filter(span="day", start__gte=date(2026, 10, 1), start__lt=date(2026, 12, 1)).delete()
    rows = list(Request.objects.all())
    report = read_label_report(FIRST, END, ("team",), most=100)
    assert told(report) == expected(rows, ("team",), FIRST, END)


def test_a_month_without_calls_after_the_range_is_read_as_a_month() -> None:
    write_random(50)
    rows = list(Request.objects.all())
    newest = max(row.started_at.astimezone(UTC).date() for row in rows)
    month, end = newest.replace(day=1), newest + timedelta(days=1)
    both = [read_label_report(month, last, ("team",), most=100) for last in (end, newest)]
    assert [told(report) for report in both] == [expected(rows, ("team",), month, last) for last in (end, newest)]
    LabelTotal.objects.filter(span="day").delete()
    assert told(read_label_report(month, end, ("team",), most=100)) == expected(rows, ("team",), month, end)
    assert read_label_report(month, newest, ("team",), most=100).rows == []  # this range is read by days


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), (date(2026, 11, 1), date(2026, 12, 1))),
        (NOON, NOON + timedelta(hours=1), (NOON.date(), NOON.date() + timedelta(days=1))),
    ],
)
def test_a_range_becomes_whole_days(start: datetime, end: datetime, days: tuple[date, date]) -> None:
    assert whole_days(TimeRange("custom", start, end)) == days
