"""What the page Usage compares with the period before, while the chosen days are not over."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client

from tests.support.ledger.pages import DASHBOARD, USAGE, make_call, midnight, text_of, tiles
from tests.support.moved_clock import Traveller
from usage.page_data import formatting
from usage.page_data.spending import spending_content

pytestmark = pytest.mark.django_db


def test_a_day_that_is_not_over_is_not_compared_with_a_whole_one(admin: Client) -> None:
    for days_ago, calls in ((0, 1), (1, 2), (2, 4), (3, 4)):
        for _ in range(calls):
            make_call(started_at=midnight() - timedelta(days=days_ago))
    today, first = f"{midnight():%Y-%m-%d}", f"{midnight() - timedelta(days=1):%Y-%m-%d}"
    page = text_of(admin.get(USAGE, {"first": today, "last": today, "by": "model"}).content.decode())
    assert "Change" not in page
    assert "A part of a day is not compared with a whole one" in page
    by_day = admin.get(USAGE, {"first": first, "last": today, "by": "day"}).context["spending"]
    assert [row.change for row in by_day.rows] == ["\N{MINUS SIGN}50\N{NARROW NO-BREAK SPACE}%", "so far"]

    page = text_of(admin.get(USAGE, {"first": first, "last": today, "by": "model"}).content.decode())
    assert f"Usage from {first} to {today}, so far" in page
    assert "Change so far" in page
    assert "so far" not in text_of(admin.get(USAGE, {"first": first, "last": first}).content.decode())


@pytest.mark.parametrize("name", ["this_week", "this_month"])
@pytest.mark.parametrize("clock", ["2026-11-30T15:08", "2026-11-04T02:10", "2026-10-31T23:59"])
def test_the_dollars_by_the_same_hour_are_those_of_the_dashboard(
    admin: Client, time_machine: Traveller, name: str, clock: str
) -> None:
    now = datetime.fromisoformat(f"{clock}+00:00")
    time_machine.move_to(now.timestamp(), tick=False)
    for hours_ago in range(0, 24 * 64, 7):
        make_call(started_at=now - timedelta(hours=hours_ago, minutes=1))
    answer = admin.get(USAGE, {"range": name, "by": "key"})
    same, page = answer.context["spending"].same_hours, admin.get(DASHBOARD, {"range": name}).content.decode()
    assert same is not None
    total, change = answer.context["spending"].total.cost, same.change.replace(formatting.THIN, " ")
    assert tiles(page)["dollars"].startswith(f"Cost {total} {change} from {same.cost}")
    assert f"Changes are from {same.period} UTC" in text_of(page)
    said = f"In the same hours before ({same.period} UTC) {same.cost}, a change of {change}"
    assert said in text_of(answer.content.decode())


@pytest.mark.parametrize(
    "query",
    [{"range": "last_week"}, {"range": "this_week", "key": "default"}, {"first": "2099-01-01", "last": "2099-01-02"}],
)
def test_the_same_hours_are_not_told_of_other_calls(admin: Client, query: dict[str, str]) -> None:
    make_call(started_at=midnight())
    answer = admin.get(USAGE, query)
    assert answer.context["spending"].same_hours is None
    assert "same hours" not in text_of(answer.content.decode())


@pytest.mark.parametrize(
    "by", [{"by": "day"}, {"by": "day", "then": "model"}, {"by": "model"}, {"by": "model", "then": "key"}]
)
@pytest.mark.parametrize("last_days_ago", [0, 1, -2])
def test_each_change_that_has_the_present_day_in_it_says_so(
    admin: Client, monkeypatch: pytest.MonkeyPatch, by: dict[str, str], last_days_ago: int
) -> None:
    """The head says it of all rows of a table; in one by day, each row says it, also the rest and the total."""
    monkeypatch.setattr(spending_content, "MAX_ROWS", 2)
    for days_ago in range(10):
        for model in ("gpt-4o", "gpt-4.1", "o3"):
            make_call(started_at=midnight() - timedelta(days=days_ago), response_model=model)
    days = {
        "first": f"{midnight() - timedelta(days=3):%Y-%m-%d}",
        "last": f"{midnight() - timedelta(days=last_days_ago):%Y-%m-%d}",
    }
    answer = admin.get(USAGE, {**days, **by, "sort": "by_0"})
    found, by_day = answer.context["spending"], by["by"] == "day"
    of_several_days = [found.total, found.others] if by_day else [found.total, found.others, *found.rows]

    assert found.total.change.startswith("±0")
    for row in of_several_days:
        said = "so far" in row.change or "Change so far" in [head.label for head in answer.context["heads"]]
        assert said == (last_days_ago <= 0)
    for row in found.rows if by_day else ():
        assert "so far" not in row.change  # the first days, which are over
