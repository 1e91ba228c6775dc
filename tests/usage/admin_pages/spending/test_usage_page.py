"""The page Usage and its CSV: numbers equal the rows to the cent, and each name and number leads to its calls."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.test import Client

from tests.support.ledger.pages import (
    DASHBOARD,
    HOSTILE,
    USAGE,
    USAGE_CSV,
    last_month,
    listed,
    make_call,
    midnight,
    text_of,
    this_month,
    tiles,
    usage_lines,
)
from tests.support.moved_clock import Traveller
from usage.models import LabelTotal, Request
from usage.page_data import formatting
from usage.page_data.spending import spending_content
from usage.page_data.spending.spending_content import Spending, SpendingRow

pytestmark = pytest.mark.django_db

CALLS: list[dict[str, Any]] = [
    {"team": "red", "tags": ["project=x"], "end_user": "ann", "output_tokens": 9000},
    {"team": "red", "tags": ["project=x"], "end_user": "bob", "response_model": "gpt-4.1-2025-04-14"},
    {"team": "blue", "tags": ["project=y"], "end_user": "ann", "output_tokens": 70},
    {"team": "", "outcome": "timeout", "response_model": "nobody-knows"},
]


@pytest.fixture(autouse=True)
def _middle_of_the_month(time_machine: Traveller) -> None:
    """The calls of this month and of midnight are over, and have whole hours and days that are compared."""
    time_machine.move_to(datetime.now(UTC).replace(day=15, hour=12, minute=30).timestamp())


@pytest.fixture
def ledger(db: None) -> list[Request]:
    """Makes the same few calls in this month and, half of them, in the month before; returns those of this month."""
    for number, columns in enumerate(CALLS):
        make_call(started_at=this_month() + timedelta(milliseconds=number), **columns)
        if number < 2:
            make_call(started_at=last_month() + timedelta(milliseconds=number), **columns)
    return list(Request.objects.filter(started_at__gte=this_month()))


def content(admin: Client, **query: str) -> Spending:
    answer = admin.get(USAGE, query)
    assert answer.status_code == 200
    found = answer.context["spending"]
    assert isinstance(found, Spending)
    return found


def names(row: SpendingRow) -> list[str]:
    return [cell.text for cell in row.cells]


def cost(rows: list[Request]) -> Decimal:
    return sum((row.cost or Decimal(0) for row in rows), Decimal(0))


def test_it_works(admin: Client, ledger: list[Request]) -> None:
    found = content(admin)
    assert [names(row) for row in found.rows] == [
        ["red", "gpt-4o-mini-2024-07-18"], ["red", "gpt-4.1-2025-04-14"], ["blue", "gpt-4o-mini-2024-07-18"],
        ["(none)", "(unknown model)"],
    ] or len(found.rows) == 4  # fmt: skip
    assert found.total is not None
    assert found.total.cost == formatting.dollars(cost(ledger))
    assert found.total.calls == 4
    assert found.others is None


def test_the_total_is_that_of_the_dashboards_tile(admin: Client, ledger: list[Request]) -> None:
    tile = tiles(admin.get(DASHBOARD, {"range": "this_month"}).content.decode())["dollars"]
    total = content(admin).total
    assert total is not None
    assert total.cost in tile
    assert total.uncertain[-1] == "1 needs a price"


def test_project_x_by_model_as_csv_equals_the_rows(admin: Client, ledger: list[Request]) -> None:
    lines = usage_lines(admin, by="model", tag="project=x")
    assert list(lines[0]) == [
        "line", "first_day", "last_day", "tag:project", "model", "calls", "errors", "unpriced_calls", "input_tokens",
        "cached_tokens", "output_tokens", "cost_usd", "cost_estimated_usd", "cost_provisional_usd", "cost_before_usd",
        "cost_compared_usd", "compared_last_day",
    ]  # fmt: skip
    assert [line["line"] for line in lines] == ["group", "group", "total"]
    assert {line["tag:project"] for line in lines} == {"x"}
    by_model = {row.response_model: row for row in ledger if "project=x" in row.tags}
    assert {line["model"]: Decimal(line["cost_usd"]) for line in lines[:-1]} == {
        model: row.cost for model, row in by_model.items()
    }
    assert lines[-1]["model"] == "Total"
    assert Decimal(lines[-1]["cost_usd"]) == cost(list(by_model.values())) == Decimal(lines[-1]["cost_before_usd"])
    assert {len(line[name].partition(".")[2]) for line in lines for name in line if name.endswith("_usd")} == {8}
    assert lines[0]["first_day"] == f"{this_month():%Y-%m-%d}"
    assert lines[0]["last_day"] == f"{midnight():%Y-%m-%d}"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"range": "2026-10", "tag": "project=apollo"}, "usage-apollo-2026-10.csv"),
        ({"range": "2026-10", "tag": "project", "team": "Red & blue"}, "usage-Red-blue-project-2026-10.csv"),
        ({"range": "2026-10", "team": "(none)"}, "usage-team-2026-10.csv"),
        ({"range": "2026-10", "key": '"/../\u00e9\r\n'}, "usage-key-2026-10.csv"),
        ({"first": "2026-10-01", "last": "2026-10-30"}, "usage-2026-10-01-to-2026-10-30.csv"),
    ],
)
def test_the_file_says_what_it_has(admin: Client, query: dict[str, str], name: str) -> None:
    assert admin.get(USAGE_CSV, query)["Content-Disposition"] == f'attachment; filename="{name}"'


def test_groups_are_models_while_there_are_no_teams(admin: Client) -> None:
    make_call(started_at=midnight())
    assert admin.get(USAGE).context["choice"].groups == ("model",)
    assert ">model</a>" in admin.get(DASHBOARD).content.decode()
    assert content(admin, by="team").total is not None
    make_call(started_at=midnight(), team="red")
    assert admin.get(USAGE).context["choice"].groups == ("team", "model")


def test_lines_beyond_the_most_are_one(admin: Client, ledger: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending_content, "MAX_ROWS", 1)
    found = content(admin, by="end_user", sort="-calls")
    assert found.others is not None
    assert found.total is not None
    assert names(found.others) == ["2 others"]
    assert found.rows[0].calls + found.others.calls == found.total.calls == 4


def test_a_change_is_that_from_the_period_before(admin: Client, ledger: list[Request]) -> None:
    changes = {names(row)[0]: row.change for row in content(admin, by="tag:project").rows}
    assert changes["x"] == "±0\N{NARROW NO-BREAK SPACE}%"
    assert changes["y"] == "new"


@pytest.mark.parametrize("name", ["this_week", "last_week", "this_month", "last_month"])
def test_weeks_and_months_are_offered(admin: Client, name: str) -> None:
    page = admin.get(USAGE, {"range": name, "by": "model"}).content.decode()
    assert f'<a href="?range={name}&amp;by=model" aria-current="true">' in page


@pytest.mark.parametrize("by", ["team", "owner", "end_user", "key", "model", "route", "day", "tag:project"])
def test_a_number_of_calls_leads_to_these_calls(admin: Client, ledger: list[Request], by: str) -> None:
    found = content(admin, by=by, then="key")
    assert found.total is not None
    rows = [row for row in [*found.rows, found.total] if row.calls_query]
    assert len(rows) >= len(found.rows)
    for row in rows:
        assert len(listed(admin, **dict(parse_qsl(row.calls_query)))) == row.calls, names(row)


@pytest.mark.parametrize("by", ["team", "owner", "end_user", "key", "model", "route", "tag:project", "day"])
def test_a_name_leads_to_the_page_of_its_calls(admin: Client, ledger: list[Request], by: str) -> None:
    for row in content(admin, by=by).rows:
        if query := row.cells[0].query:
            total = content(admin, **dict(parse_qsl(query))).total
            assert total is not None
            assert (total.calls, total.cost) == (row.calls, row.cost)
        else:
            assert names(row) == ["(none)"]


def test_a_bar_of_the_chart_leads_to_the_same_calls_of_its_day(admin: Client, ledger: list[Request]) -> None:
    page = admin.get(USAGE, {"by": "day", "model": "gpt-4o-mini-2024-07-18", "range": "last_month"}).content.decode()
    linked = re.search(r'data-usage="([^"]*)"', page)
    assert linked is not None
    day = f"{last_month():%Y-%m-%d}"
    answer = admin.get(unescape(f"{linked[1]}&first={day}&last={day}"))
    assert answer.context["choice"].groups == ("key", "route")
    assert answer.context["spending"].total.calls == 1
    assert "data-usage" not in answer.content.decode()


def test_a_total_that_no_list_can_have_leads_to_none(admin: Client) -> None:
    make_call(started_at=midnight(), tags=["project=x", "night"])
    for query, links in (("tag=night", 1), ("tag=night&tag=project%3Dx", 0)):
        page = admin.get(f"{USAGE}?by=key&{query}").content.decode()
        [total] = re.findall(r'<p class="cp-found">.*?</p>', page)
        assert "1 call" in text_of(total)
        assert total.count("<a ") == links


def test_every_head_sorts(admin: Client, ledger: list[Request]) -> None:
    page = admin.get(USAGE).content.decode()
    heads = re.search(r"<thead>.*?</thead>", page, flags=re.S)
    assert heads is not None
    queries = re.findall(r'href="\?([^"]*)"', heads[0])
    assert len(queries) == 9
    for query in queries:
        answer = admin.get(f"{USAGE}?{unescape(query)}")
        assert answer.context["faults"] == []
        assert len(answer.context["spending"].rows) == len(content(admin).rows)


def test_the_chart_has_the_days(admin: Client, ledger: list[Request]) -> None:
    charts: Any = content(admin, by="team").charts
    assert [series["name"] for series in charts["dollars"]] == ["red", "blue"]
    assert sum(sum(series["values"]) for series in charts["dollars"]) == pytest.approx(float(cost(ledger)))
    assert len(charts["times"]) == midnight().day
    assert content(admin, first="2025-01-01", last="2026-01-01").charts == {}


def test_the_dashboard_leads_to_each_tag(admin: Client, ledger: list[Request]) -> None:
    page = admin.get(DASHBOARD).content.decode()
    links = re.search(r'<nav class="cp-by".*?</nav>', page, flags=re.S)
    assert links is not None
    assert re.findall(r">([^<>]+)</a>", links[0]) == ["team", "key owner", "end user", "key", "project"]
    for link in re.findall(r'href="([^"]*)"', links[0]):
        assert admin.get(unescape(link)).context["faults"] == []
    [of_days] = re.findall(r'data-usage="([^"]*)"', page)
    answer = admin.get(unescape(f"{of_days}&first={this_month():%Y-%m-%d}&last={this_month():%Y-%m-%d}"))
    assert answer.context["choice"].groups == ("model", "key")
    assert answer.context["spending"].total.calls == 4


def test_two_labels_over_a_long_time_say_why_not(admin: Client, ledger: list[Request]) -> None:
    query = {"by": "tag:project", "then": "end_user", "first": "2026-01-01", "last": "2026-06-01"}
    assert "33 days" in text_of(admin.get(USAGE, query).content.decode())
    answer = admin.get(USAGE_CSV, query)
    assert (answer.status_code, "33 days" in answer.content.decode()) == (400, True)


def test_a_wrong_address_is_told(admin: Client) -> None:
    assert "no column to sort by" in text_of(admin.get(USAGE, {"sort": "digest"}).content.decode())
    assert admin.get(USAGE_CSV, {"sort": "digest"}).status_code == 400
    assert "No calls in this period" in text_of(admin.get(USAGE).content.decode())


def test_strangers_text_is_harmless(admin: Client) -> None:
    make_call(end_user=HOSTILE, tags=[f"project={HOSTILE}", "=1+1"], started_at=midnight())
    make_call(end_user="=cmd|'/c calc'!A1", started_at=midnight())
    for query in ({"by": "end_user", "then": "tag:project"}, {"by": "end_user", "end_user": HOSTILE}):
        assert "<script>alert" not in admin.get(USAGE, query).content.decode()
    assert {line["end_user"][0] for line in usage_lines(admin, by="end_user")} <= {"<", "'", "T"}


def test_calls_that_the_sums_lack_are_said(admin: Client, ledger: list[Request]) -> None:
    assert content(admin).fault == ""
    LabelTotal.objects.filter(start__gte=this_month().date()).delete()  # an older version has written the calls
    said = f"From {this_month().date()} on, these sums lack calls that an older version has written."
    assert said in text_of(admin.get(USAGE).content.decode())
