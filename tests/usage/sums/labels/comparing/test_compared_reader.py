"""Sums of groups beside those of the period before, and day by day: equal to what is read of each period alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F

from tests.support.ledger.ledgers import call, random_call
from usage.journal_shipping.rows import write_rows
from usage.models import LabelTotal, LedgerState, UsageTotal
from usage.money.row_pricing import Pricer
from usage.sums.labels.comparing.compared_reader import ORDERS, ComparedReport, read_compared_report
from usage.sums.labels.comparing.daily_costs import read_costliest, read_daily_costs
from usage.sums.labels.label_reader import read_label_report
from usage.sums.labels.label_tables import END_USER, OTHERS
from usage.sums.labels.tag_names import HAS_TEAMS, has_teams, read_tag_names

pytestmark = pytest.mark.django_db

NOVEMBER, OCTOBER = (date(2026, 11, 1), date(2026, 12, 1)), (date(2026, 10, 1), date(2026, 11, 1))
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)


def write_random(count: int) -> None:
    chance = random.Random(3)
    first = datetime(2026, 9, 20, tzinfo=UTC)
    rows = [random_call(chance, first + timedelta(hours=chance.randrange(24 * 80))) for _ in range(count)]
    write_rows(Pricer().priced(rows))


def read(*groups: str, **options: Any) -> ComparedReport:
    wanted: dict[str, Any] = {"only": {}, "order": "cost", "is_falling": True, "most": 1000, **options}
    return read_compared_report(NOVEMBER, OCTOBER, groups, **wanted)


@pytest.mark.parametrize(
    "groups", [("team",), ("key", "model"), (END_USER, "owner"), ("tag:project", "route"), ("tag:project", END_USER)]
)
@pytest.mark.parametrize("only", [{}, {"team": "red"}, {"tag:project": "x"}], ids=str)
def test_each_period_is_as_if_read_alone(groups: tuple[str, ...], only: dict[str, str | None]) -> None:
    write_random(300)
    report = read(*groups, only=only)
    alone, before = (
        {row.group: row for row in read_label_report(*days, groups, only=only, most=1000).rows}
        for days in (NOVEMBER, OCTOBER)
    )
    assert {row.sums.group: row.sums for row in report.rows if row.sums.has_use} == alone
    assert {row.sums.group: row.cost_before for row in report.rows if row.cost_before} == {
        group: row.cost for group, row in before.items() if row.cost
    }
    assert report.total.sums.cost == sum(row.cost for row in alone.values())
    assert report.total.cost_before == sum(row.cost for row in before.values())
    assert report.others is None


@pytest.mark.parametrize(
    "groups", [("team",), ("key", "day"), (END_USER,), ("tag:project", "route"), ("tag:project", END_USER)], ids=str
)
@pytest.mark.parametrize("only", [{}, {"team": "red"}, {"tag:project": "x"}], ids=str)
@pytest.mark.parametrize("number", [0, 3, 9, 28, 29, 30])
def test_only_the_same_days_of_both_periods_are_compared(
    groups: tuple[str, ...], only: dict[str, str | None], number: int
) -> None:
    """The first days of both months, whether their other days are many or few."""
    write_random(300)
    days, before = ((month[0], month[0] + timedelta(days=number)) for month in (NOVEMBER, OCTOBER))
    wanted: dict[str, Any] = {"only": only, "order": "change", "is_falling": True, "most": 1000}
    report = read_compared_report(NOVEMBER, before, groups, compared_end=days[1], **wanted)
    alone, past = (
        {row.group: row.cost for row in read_label_report(*days, groups, only=only, most=1000).rows if row.cost}
        if number
        else {}
        for days in (days, before)
    )
    assert {row.sums.group: row.cost_compared for row in report.rows if row.cost_compared} == alone
    assert report.total.cost_compared == sum(alone.values())
    if number:
        assert report.total.cost_before == sum(past.values())
    if number and "day" not in groups:
        assert {row.sums.group: row.cost_before for row in report.rows if row.cost_before} == past
    assert report.others is None


def test_days_are_subtracted_from_the_end_users_of_their_month() -> None:
    """A month that has named enough end users counts the others together, where its days may name them."""
    write_rows(
        Pricer().priced(
            [
                call(moment - timedelta(days=days), end_user=name)
                for moment in (NOON, NOON.replace(day=30))
                for name in ("ada", "bob", "cem", "")
                for days in (0, 30)
            ]
        )
    )
    LabelTotal.objects.filter(span="month", value="bob").update(value=OTHERS)
    first, last = NOVEMBER[0], date(2026, 11, 30)
    before = OCTOBER[0], date(2026, 10, 31)
    wanted: dict[str, Any] = {"only": {}, "order": "cost", "is_falling": True, "most": 1000}
    report = read_compared_report((first, NOVEMBER[1]), before, (END_USER,), compared_end=last, **wanted)
    assert {row.sums.group[0] for row in report.rows} == {"ada", OTHERS, "cem", None}
    one = report.total.sums.cost / 8
    assert {row.cost_compared for row in report.rows} == {one}
    assert {row.cost_before for row in report.rows} == {one}
    assert report.total.cost_compared == report.total.cost_before == 4 * one


@pytest.mark.parametrize("order", [*ORDERS, "by_0", "by_1"])
@pytest.mark.parametrize("is_falling", [True, False])
def test_shown_rows_and_others_add_up_in_every_order(order: str, is_falling: bool) -> None:
    write_random(200)
    whole = read("key", "model", order=order, is_falling=is_falling)
    cut = read("key", "model", order=order, is_falling=is_falling, most=2)
    assert cut.rows == whole.rows[:2]
    assert cut.others is not None
    assert cut.other_groups == len(whole.rows) - 2
    for name in ("calls", "errors", "input_tokens", "output_tokens", "cost", "estimated_cost"):
        shown = sum(getattr(row.sums, name) for row in cut.rows)
        assert shown + getattr(cut.others.sums, name) == getattr(cut.total.sums, name)
    assert sum(row.cost_before or 0 for row in (*cut.rows, cut.others)) == cut.total.cost_before


def test_what_is_new_has_grown_most() -> None:
    month_before = NOON - timedelta(days=31)
    names = {"new": (0, 9), "grown": (1, 9), "gone": (9, 0), "same": (5, 5)}
    rows = [
        call(moment, key_name=name, output_tokens=1000 * tokens)
        for name, pair in names.items()
        for moment, tokens in zip((month_before, NOON), pair, strict=True)
        if tokens
    ]
    write_rows(Pricer().priced(rows))
    assert [row.sums.group[0] for row in read("key", order="change").rows] == ["new", "grown", "same", "gone"]


def test_a_day_is_compared_with_the_same_day_of_the_month_before() -> None:
    days = (datetime(2026, 10, 5, 9, tzinfo=UTC), datetime(2026, 10, 31, 9, tzinfo=UTC), NOON)
    write_rows(Pricer().priced([call(day) for day in days]))
    report = read("day", order="by_0", is_falling=False)
    assert [(row.sums.group[0], row.cost_before == row.sums.cost) for row in report.rows] == [(NOON.date(), True)]
    assert report.total.cost_before == 2 * report.total.sums.cost  # with October 31, which has no counterpart
    assert report.others is None


def test_two_labels_without_the_rows_of_the_period_before() -> None:
    write_random(50)
    LedgerState.load()
    LedgerState.objects.update(pruned_before=datetime(2026, 10, 20, tzinfo=UTC))
    assert {row.cost_before for row in read("tag:project", END_USER).rows} == {None}


@pytest.mark.parametrize("last", [date(2026, 10, 22), date(2026, 10, 26), date(2026, 10, 31)], ids=str)
def test_two_labels_of_the_thirty_days_before(last: date) -> None:
    """They can be read call by call, and are, although the rest of their last month makes the days too many."""
    write_random(300)
    before = last - timedelta(days=30), last
    days = last, last + timedelta(days=30)
    groups = ("tag:project", END_USER)
    report = read_compared_report(days, before, groups, only={}, order="cost", is_falling=True, most=1000)
    assert report.total.cost_before == read_label_report(*before, groups, most=1000).total.cost > 0


def test_reading_writes_nothing() -> None:
    """A page reads in a snapshot, in which PostgreSQL refuses every write."""
    LedgerState.objects.all().delete()
    read("tag:project", END_USER)
    assert not LedgerState.objects.exists()


@pytest.mark.parametrize("group", ["team", END_USER, "tag:project"])
def test_the_days_add_up(group: str) -> None:
    write_random(300)
    costliest = read_costliest(NOVEMBER, group, only={}, most=1, is_complete=True)
    lines = read_daily_costs(NOVEMBER, group, costliest, only={}, is_complete=True)
    first = read_label_report(*NOVEMBER, (group,), most=1)
    assert [is_others for _, is_others, _ in lines] == [False, True]
    assert (lines[0][0],) == first.rows[0].group
    assert sum(lines[0][2].values()) == first.rows[0].cost
    assert sum((sum(days.values(), Decimal(0)) for _, _, days in lines), Decimal(0)) == first.total.cost


def test_names_of_tags_are_those_since_a_month() -> None:
    old = call(NOON - timedelta(days=60), tags=["old=1", "both"])
    new = call(NOON, tags=["project=x", "project=y", "both", "Zwei"], end_user="x")
    write_rows(Pricer().priced([old, new]))
    names = read_tag_names(NOON.date())
    assert (names[0], sorted(names[1:])) == ("project", ["Zwei", "both"])  # one that has values is the first
    assert "old" in read_tag_names(date(2026, 9, 6))


def test_teams_are_known_by_their_calls_since_a_month() -> None:
    """The sums by label are not asked: where there are no teams, all of them would be read on each page."""
    write_rows(Pricer().priced([call(NOON), call(NOON - timedelta(days=60), team="old")]))
    LabelTotal.objects.all().delete()
    assert not has_teams(NOON.date())
    assert has_teams(date(2026, 9, 30))
    write_rows(Pricer().priced([call(NOON - timedelta(days=4), team="red")]))
    assert has_teams(NOON.date())


def test_days_and_calls_do_not_make_it_read_more() -> None:
    def rows_read() -> float:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("ANALYZE usage_teamday")
            cursor.execute("SET LOCAL enable_seqscan = off")  # few rows are read quickly without an index, too
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {HAS_TEAMS}", {"since": NOON.date()})
            [(plans,)] = cursor.fetchall()
        tree = nodes_of((json.loads(plans) if isinstance(plans, str) else plans)[0]["Plan"])
        of_table = [node for node in tree if node.get("Relation Name") == "usage_teamday"]
        return sum(
            float(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
            for node in of_table
        )

    def write(days: Iterable[int]) -> None:
        write_rows([call(NOON - timedelta(days=number), team=team) for number in days for team in ("blue", "red")])

    write(range(40, 43))
    of_few = rows_read()
    write(range(43, 400))
    assert rows_read() == of_few > 0
    assert not has_teams(NOON.date())


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the nodes of a plan of PostgreSQL's, those of its subplans, too."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


def test_without_tags_there_are_no_names() -> None:
    assert read_tag_names(NOON.date()) == []


@pytest.mark.parametrize("groups", [(END_USER,), (END_USER, "day"), ("team", "model")])
def test_large_sums_of_tokens_are_exact(groups: tuple[str, ...]) -> None:
    write_rows(Pricer().priced([call(NOON, end_user="ada", input_tokens=7)]))
    for table in (LabelTotal, UsageTotal):
        table.objects.update(input_tokens=F("input_tokens") + 2**53 - 10)
    report = read(*groups)
    assert [row.sums.input_tokens for row in report.rows] == [2**53 - 3]
    assert report.total.sums.input_tokens == 2**53 - 3
