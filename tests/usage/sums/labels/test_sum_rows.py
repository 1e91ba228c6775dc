"""Sums of all calls from the totals of days: the same as from the sums by label, for any calls, groups and filters."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.support.ledger.ledgers import random_call
from usage.journal_shipping.rows import write_rows
from usage.models import LabelTotal
from usage.money.row_pricing import Pricer
from usage.sums.labels import label_reader, sum_rows
from usage.sums.labels.comparing import compared_sql, daily_costs
from usage.sums.labels.comparing.compared_reader import ORDERS, DailyCosts, read_compared_report
from usage.sums.labels.comparing.daily_costs import read_daily_costs
from usage.sums.labels.label_groups import GroupValue
from usage.sums.labels.label_reader import read_label_report
from usage.sums.labels.label_tables import END_USER
from usage.sums.labels.span_ranges import SpanRange
from usage.sums.labels.sum_rows import has_grand_totals, has_totals
from usage.upkeep.label_sums import folding
from usage.upkeep.label_sums.folding import fold_labels
from usage.upkeep.rebuild_totals import rebuild_totals

pytestmark = pytest.mark.django_db

FIRST = datetime(2026, 9, 12, tzinfo=UTC)
FILTERS: dict[str, list[str | None]] = {
    "team": ["red", ""], "owner": ["Ada"], "key": ["default", "größe", "nobody"], "model": ["(unknown model)", ""],
    "route": ["/openai"], END_USER: ["user-1", None], "tag:project": ["x", None],
}  # fmt: skip
GROUPS = [*FILTERS, "day"]


def write_random(chance: random.Random, count: int) -> None:
    rows = [random_call(chance, FIRST + timedelta(hours=chance.randrange(24 * 80))) for _ in range(count)]
    write_rows(Pricer().priced(rows))


def choice_of(chance: random.Random) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """One or two groups, and at most two filters; with one label at most."""
    while True:
        groups = tuple(chance.sample(GROUPS, chance.choice([1, 2])))
        only = {
            name: chance.choice(FILTERS[name]) for name in chance.sample(list(FILTERS), chance.choice([0, 0, 1, 2]))
        }
        if len({*groups, *only} & {END_USER, "tag:project"}) <= 1:
            return groups, only


def days_of(chance: random.Random) -> tuple[date, date]:
    first = chance.choice([date(2026, 10, 1), FIRST.date() + timedelta(days=chance.randrange(70))])
    return first, chance.choice([date(2026, 12, 1), first + timedelta(days=chance.randrange(1, 70))])


def everything(days: tuple[date, date], groups: tuple[str, ...], only: dict[str, str | None], order: str) -> list[Any]:
    before = days[0] - (days[1] - days[0]), days[0]
    report = read_compared_report(days, before, groups, only=only, order=order, is_falling=True, most=7)
    group = next((name for name in groups if name != "day"), "key")
    is_complete = report.lacks_since is None
    lines = read_daily_costs(days, group, report.costliest, only=only, is_complete=is_complete)
    if report.daily is not None:
        known = read_daily_costs(days, group, report.costliest, only=only, is_complete=is_complete, known=report.daily)
        assert dollars(known) == dollars(lines)
    charts = [
        (value, is_others, {day: cost for day, cost in costs.items() if cost}) for value, is_others, costs in lines
    ]
    return [report, charts, read_label_report(*days, groups, only=only, most=7)]


def dollars(lines: Iterable[tuple[GroupValue, bool, DailyCosts]]) -> list[tuple[GroupValue, bool, DailyCosts]]:
    return [(value, is_others, {day: cost for day, cost in costs.items() if cost}) for value, is_others, costs in lines]


def random_choices(seed: int) -> tuple[list[Any], list[list[Any]]]:
    """Writes calls; returns arguments of `everything`, and what it has read with each of them."""
    chance = random.Random(seed)
    write_random(chance, 150)
    if seed % 3 == 2:  # older code has written some calls, which the sums by label lack
        LabelTotal.objects.filter(start__gte=date(2026, 11, 1), key_name="default").delete()
    choices = [(days_of(chance), *choice_of(chance), chance.choice([*ORDERS, "by_0"])) for _ in range(40)]
    quick = [everything(*choice) for choice in choices]
    return choices, quick


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_are_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    choices, quick = random_choices(seed)
    for module in (label_reader, daily_costs):
        monkeypatch.setattr(module, "has_totals", lambda groups, only: False)
    for choice, found in zip(choices, quick, strict=True):
        assert everything(*choice) == found, choice
    for module in (sum_rows, compared_sql):
        monkeypatch.setattr(module, "has_grand_totals", lambda groups, only: False)
    for choice, found in zip(choices, quick, strict=True):
        assert everything(*choice) == found, choice


@pytest.mark.parametrize("seed", range(6))
def test_months_less_some_days_are_the_same_as_days(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    choices, quick = random_choices(seed)
    monkeypatch.setattr(label_reader, "ranges_to_read", lambda first, end, **_: [SpanRange("day", first, end)])
    for choice, found in zip(choices, quick, strict=True):
        assert without_lacking(everything(*choice)) == without_lacking(found), choice


def without_lacking(found: list[Any]) -> list[Any]:
    """What `everything` has read, but for the first day that lacks calls: for a month, that is always its first day."""
    report, charts, label_report = found
    return [dataclasses.replace(report, lacks_since=None), charts, dataclasses.replace(label_report, lacks_since=None)]


@pytest.mark.parametrize("fold", ["tags", "values"])
@pytest.mark.parametrize(
    ("groups", "only"),
    [
        *(((name,), {}) for name in ("tag:project", "tag:a", "tag:b c", END_USER)),
        *((("team",), {name: None}) for name in ("tag:project", "tag:a", "tag:b c", END_USER)),
        *((("model",), {END_USER: f"user-{number}"}) for number in (1, 2)),
        ((END_USER,), {END_USER: "user-2"}), (("tag:project",), {"tag:project": "x"}), (("key",), {"tag:a": ""}),
    ],
)  # fmt: skip
def test_a_value_without_sums_in_the_month_has_none_on_its_days(
    groups: tuple[str, ...], only: dict[str, str | None], fold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dollars that are not compared are subtracted from those of the month, which has no sums of cheap tags."""
    chance = random.Random(3)
    write_random(chance, 200)
    monkeypatch.setattr(folding, "MOST_TAG_NAMES" if fold == "tags" else "MOST_VALUES", 1)
    monkeypatch.setattr(folding.Period, "has_ended", lambda period, now: period.span == "month")
    fold_labels(FIRST + timedelta(days=80))
    for _ in range(10):
        end, days = date(2026, 11, chance.randrange(2, 30)), (date(2026, 11, 1), date(2026, 12, 1))
        before = date(2026, 10, 1), date(2026, 10, 1) + (end - days[0])
        report = read_compared_report(
            days, before, groups, only=only, order="cost", is_falling=True, most=100, compared_end=end
        )
        for row in (*report.rows, report.total):
            assert min(row.cost_before or 0, row.cost_compared) >= 0, (end, row)


@pytest.mark.parametrize("groups", [("day",), (END_USER, "day"), ("tag:project",), ("model", END_USER), ("key", "day")])
def test_the_sums_by_label_of_all_calls_are_not_read(groups: tuple[str, ...]) -> None:
    """Those of months alone are read, to find out whether the sums by label have all calls."""
    write_random(random.Random(1), 50)
    days, before = (date(2026, 11, 1), date(2026, 12, 1)), (date(2026, 10, 1), date(2026, 11, 1))
    whole = read_compared_report(days, before, groups, only={}, order="cost", is_falling=True, most=100)
    LabelTotal.objects.filter(span="day", label="").delete()
    assert read_compared_report(days, before, groups, only={}, order="cost", is_falling=True, most=100) == whole


@pytest.mark.parametrize(
    ("groups", "only", "has"),
    [
        ((), {}, True), (("day",), {END_USER: None}, True), (("day",), {END_USER: "a"}, False),
        ((END_USER,), {}, False), (("day", "model"), {}, False), ((), {"key": "a"}, False),
    ],
)  # fmt: skip
def test_which_groups_have_grand_totals(groups: tuple[str, ...], only: dict[str, str | None], has: bool) -> None:
    assert has_grand_totals(groups, only) == has


@pytest.mark.parametrize(
    ("groups", "only", "has"),
    [
        ((), {}, True), (("day",), {}, True), (("team",), {}, False), (("key",), {}, False), (("key", "day"), {}, True),
        (("model", END_USER), {"model": "x"}, True), (("model",), {"route": "x"}, False),
        (("day",), {"owner": ""}, False), (("route",), {"key": "x"}, False), (("day",), {"key": "x"}, True),
    ],
)  # fmt: skip
def test_which_groups_have_totals(groups: tuple[str, ...], only: dict[str, str | None], has: bool) -> None:
    assert has_totals(groups, only) == has


def test_calls_of_older_code_are_in_all_sums_again_after_they_were_added() -> None:
    write_random(random.Random(2), 80)
    days, before = (date(2026, 11, 1), date(2026, 12, 1)), (date(2026, 10, 1), date(2026, 11, 1))
    whole = read_compared_report(days, before, (END_USER,), only={}, order="cost", is_falling=True, most=100)
    LabelTotal.objects.filter(start__gte=days[0], key_name="default").delete()
    lacking = read_compared_report(days, before, (END_USER,), only={}, order="cost", is_falling=True, most=100)
    assert (whole.lacks_since, lacking.lacks_since) == (None, days[0])
    assert lacking.total.sums.cost < whole.total.sums.cost
    rebuild_totals(FIRST + timedelta(days=90))
    assert read_compared_report(days, before, (END_USER,), only={}, order="cost", is_falling=True, most=100) == whole
