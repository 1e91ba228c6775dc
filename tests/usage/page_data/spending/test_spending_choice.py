"""What the address of the page Usage asks for, and that every address that the page makes asks for the same."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from django.http import QueryDict

from usage.page_data.spending.spending_choice import DEFAULT_GROUPS, SpendingChoice, read_choice

NOW = datetime(2026, 11, 29, 17, 40, tzinfo=UTC)


def read(query: str) -> SpendingChoice:
    return read_choice(QueryDict(query), NOW)


@pytest.mark.parametrize(
    ("query", "first", "last", "before"),
    [
        ("", "2026-11-01", "2026-11-29", ("2026-10-01", "2026-10-29")),
        ("range=2026-11", "2026-11-01", "2026-11-29", ("2026-10-01", "2026-10-29")),
        ("range=last_month", "2026-10-01", "2026-10-31", ("2026-09-01", "2026-09-30")),
        ("first=2026-10-01&last=2026-10-31", "2026-10-01", "2026-10-31", ("2026-09-01", "2026-09-30")),
        ("first=2026-11-03&last=2026-11-05", "2026-11-03", "2026-11-05", ("2026-10-31", "2026-11-02")),
        ("first=2026-11-29", "2026-11-29", "2026-11-29", ("2026-11-28", "2026-11-28")),
        ("range=2026-11-28", "2026-11-28", "2026-11-28", ("2026-11-27", "2026-11-27")),
        ("range=week", "2026-11-22", "2026-11-29", ("2026-11-14", "2026-11-21")),
        # Days that have not begun are compared with none.
        ("first=2026-11-01&last=2026-11-30", "2026-11-01", "2026-11-29", ("2026-10-01", "2026-10-29")),
        ("first=2026-11-28&last=2026-12-04", "2026-11-28", "2026-12-04", ("2026-11-21", "2026-11-22")),
        ("first=2026-11-01&last=2026-12-31", "2026-11-01", "2026-12-31", ("2026-09-01", "2026-09-29")),
        ("first=2026-12-01&last=2026-12-31", "2026-12-01", "2026-12-31", ("2026-10-31", "2026-10-31")),
        ("first=2026-12-02&last=2026-12-02", "2026-12-02", "2026-12-02", ("2026-12-01", "2026-12-01")),
    ],
)
def test_days_are_whole_and_both_included(query: str, first: str, last: str, before: tuple[str, str]) -> None:
    choice = read(query)
    assert (choice.first, choice.last) == (date.fromisoformat(first), date.fromisoformat(last))
    earlier = choice.days.before
    assert (earlier.start.date().isoformat(), (earlier.end.date()).isoformat()) == (
        before[0],
        date.fromordinal(date.fromisoformat(before[1]).toordinal() + 1).isoformat(),
    )
    assert choice.faults == ()
    assert read(choice.as_query()) == choice
    assert read(choice.as_query()).days.before == choice.days.before


@pytest.mark.parametrize(
    "query",
    [
        "by=tag:project&then=model&team=red&tag=project=x&tag=night&sort=-calls",
        "by=end_user&owner=(none)&range=2026-10&sort=by_0",
        "by=day&then=tag:a=b&sort=-cost",
        "first=2026-11-03&last=2026-11-04&by=key&tag=project=",
    ],
)
def test_an_address_is_read_as_it_was_written(query: str) -> None:
    choice = read(query)
    assert choice.faults == ()
    assert read(choice.as_query()) == choice


@pytest.mark.parametrize(
    "query",
    ["range=2027-01", "range=nonsense", "first=x", "first=2026-11-05&last=2026-11-01", "first=1971-01-01",
     "by=nothing", "by=tag:", "sort=digest", "sort=by_5", "end_user=(none)"],
)  # fmt: skip
def test_what_cannot_be_read_is_named(query: str) -> None:
    choice = read(query)
    assert len(choice.faults) == 1
    assert (choice.groups, choice.only, choice.sort) == (DEFAULT_GROUPS, {}, "-cost")


def test_a_name_leads_to_its_calls_by_what_follows() -> None:
    choice = read("by=tag:project&then=key&sort=-calls").narrowed("tag:project", "x")
    assert (choice.groups, choice.only, choice.sort) == (("key",), {"tag:project": "x"}, "-cost")
    assert choice.narrowed("key", "k").groups == ("model",)
    assert read("by=tag:project").narrowed("tag:project", "x").groups == ("model",)
    assert read("by=model").narrowed("model", "").only == {"model": ""}


@pytest.mark.parametrize(
    ("query", "groups"),
    [("by=day", ("model", "key")), ("by=day&then=team", ("team",)), ("by=owner&then=route", ("owner", "route")),
     ("by=day&model=x", ("key", "route")), ("by=day&model=x&key=y&route=z", DEFAULT_GROUPS)],
)  # fmt: skip
def test_a_day_leads_to_its_groups(query: str, groups: tuple[str, ...]) -> None:
    day = date(2026, 11, 28)
    choice = read(query).of_days(day, date(2026, 11, 29))
    assert (choice.first, choice.last, choice.groups, choice.sort) == (day, day, groups, "-cost")
    assert read(choice.as_query()) == choice


def test_a_head_sorts_and_then_turns() -> None:
    choice = read("")
    assert choice.sorted_by("cost").sort == "cost"
    assert choice.sorted_by("calls").sort == "-calls"
    assert choice.sorted_by("by_0").sort == "by_0"
    assert choice.sorted_by("by_0").sorted_by("by_0").sort == "-by_0"
