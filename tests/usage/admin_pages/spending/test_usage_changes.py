"""What the page Usage compares with the period before, while the chosen days are not over."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client

from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, USAGE, make_call, midnight, text_of, tiles
from tests.support.moved_clock import Traveller
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data import formatting
from usage.page_data.spending import spending_content

pytestmark = pytest.mark.django_db


def test_days_that_are_over_are_compared_and_today_is_not(admin: Client) -> None:
    for days_ago, calls in ((0, 1), (1, 2), (2, 4), (3, 4)):
        for _ in range(calls):
            make_call(started_at=midnight() - timedelta(days=days_ago))
    today, first, _, before = (f"{midnight() - timedelta(days=number):%Y-%m-%d}" for number in range(4))
    answer = admin.get(USAGE, {"first": today, "last": today, "by": "model"})
    assert [head.label for head in answer.context["heads"]][-1] == "Cost"
    assert "No change is shown yet: whole days are compared, the first from " in text_of(answer.content.decode())
    assert f"Usage on {today}, so far UTC $" in text_of(answer.content.decode())
    by_day = admin.get(USAGE, {"first": first, "last": today, "by": "day"}).context["spending"]
    assert [row.change for row in by_day.rows] == ["\N{MINUS SIGN}50\N{NARROW NO-BREAK SPACE}%", "not over"]
    assert [row.before == formatting.UNKNOWN for row in by_day.rows] == [False, True]

    answer = admin.get(USAGE, {"first": first, "last": today, "by": "model"})
    page, [row] = text_of(answer.content.decode()), answer.context["spending"].rows
    assert f"Usage from {first} to {today}, so far" in page
    # The first of two days is compared with the first of the two before.
    assert f"Changes compare {first} with {before}, UTC" in page
    assert (row.calls, row.compared != "", row.compared != row.cost) == (3, True, True)
    assert f"to {row.compared}" in page
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
    end = "" if same.cost == total else f" to {same.cost}"
    assert tiles(page)["dollars"].startswith(f"Cost {total} {change} from {same.cost_before}{end}")
    assert f"Changes compare {same.period} with {same.period_before}, UTC" in text_of(page)
    said = f"Of this, {same.cost} in {same.period} UTC, {change} from {same.cost_before} in {same.period_before}"
    assert said in text_of(answer.content.decode()).replace(" , ", ", ")


@pytest.mark.parametrize("query", [{"range": "last_week"}, {"range": "this_week", "key": "default"}])
def test_the_same_hours_are_not_told_of_other_calls(admin: Client, query: dict[str, str]) -> None:
    make_call(started_at=midnight())
    answer = admin.get(USAGE, query)
    assert answer.context["spending"].same_hours is None
    assert "Of this" not in text_of(answer.content.decode())


@pytest.mark.parametrize(
    "by", [{"by": "day"}, {"by": "day", "then": "model"}, {"by": "model"}, {"by": "model", "then": "key"}]
)
@pytest.mark.parametrize("last_days_ago", [0, 1, -2])
@pytest.mark.parametrize("order", ["by_0", "-change", "before"])
def test_each_change_is_of_days_that_are_over(
    admin: Client, monkeypatch: pytest.MonkeyPatch, by: dict[str, str], last_days_ago: int, order: str
) -> None:
    """Each day has cost as much as any other, so no compared row has changed, whatever its calls of today cost."""
    monkeypatch.setattr(spending_content, "MAX_ROWS", 2)
    rows = [
        call(midnight() - timedelta(days=days_ago), response_model=model)
        for days_ago in range(12)
        for model in ("gpt-4o", "gpt-4.1", "o3")
    ]
    write_rows(Pricer().priced(rows))
    days = {
        "first": f"{midnight() - timedelta(days=3):%Y-%m-%d}",
        "last": f"{midnight() - timedelta(days=last_days_ago):%Y-%m-%d}",
    }
    found = admin.get(USAGE, {**days, **by, "sort": order}).context["spending"]
    for row in [found.total, found.others, *found.rows]:
        is_today = row.cells[0].text == f"{midnight():%Y-%m-%d}"
        assert row.change == ("not over" if is_today else f"±0{formatting.THIN}%"), row
        goes_on = last_days_ago <= 0 and (by["by"] != "day" or row in (found.total, found.others))
        if order == "by_0":
            assert bool(row.compared) == (goes_on and not is_today), row


def test_calls_without_a_price_have_no_dollars_to_compare(admin: Client) -> None:
    rows = [
        call(midnight() - timedelta(days=days_ago), response_model=model)
        for days_ago in (1, 2)
        for model in ("nobody-knows", "gpt-4o")
    ]
    write_rows(Pricer().priced(rows))
    day = f"{midnight() - timedelta(days=1):%Y-%m-%d}"
    found = admin.get(USAGE, {"first": day, "last": day, "by": "model"}).context["spending"]
    [known, unknown] = found.rows
    assert (known.before == known.cost, known.change) == (True, f"±0{formatting.THIN}%")
    assert (unknown.cost, unknown.before, unknown.change) == (formatting.UNKNOWN, "no price", formatting.UNKNOWN)
