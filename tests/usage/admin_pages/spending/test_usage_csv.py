"""The CSV of the page Usage: filters on every line, and dollars of as many earlier days as are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from tests.support.ledger.pages import USAGE, make_call, midnight, text_of, usage_lines
from usage.page_data.spending import spending_csv
from usage.page_data.spending.spending_csv import ANY

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"by": "key", "then": "owner"}, {"key": ["a", "b", "(others)", "Total"], "owner": ["Ada", "Bob", "", ""]}),
        ({"by": "key", "then": "team"}, {"key": ["a", "b", "(others)", "Total"]}),
        ({"by": "team", "then": "key"}, {"key": ["a", "b", "(others)", "Total"]}),
        (
            {"by": "tag:project", "then": "key"},
            {"tag:project": ["x", "x", ANY, ANY], "key": ["a", "b", "(others)", "Total"]},
        ),
        ({"by": "team", "then": "model"}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_filters_are_columns_with_their_values_on_every_line(
    admin: Client, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], names: dict[str, list[str]]
) -> None:
    monkeypatch.setattr(spending_csv, "MOST_GROUPS", 2)
    for number, (key, owner) in enumerate([("a", "Ada"), ("b", "Bob"), ("c", "Eve")]):
        for other in ({}, {"team": "blue"}, {"response_model": "gpt-4.1-2025-04-14"}, {"tags": ["night"]}):
            call: dict[str, Any] = {"team": "red", "tags": ["project=x"], "response_model": "=1+1", **other}
            make_call(started_at=midnight(), key_name=key, owner=owner, output_tokens=90 - number, **call)
    lines = usage_lines(admin, tag="project", team="red", model="=1+1", sort="by_0", **query)
    same = {"team": "red", "model": "'=1+1", "tag:project": ANY}
    kinds = ["group", "group", "others", "total"] if names else ["group", "total"]
    assert [line["line"] for line in lines] == kinds
    for name in {*same, *names}:
        assert [line[name] for line in lines] == names.get(name, [same.get(name)] * len(lines)), name
    assert [line["calls"] for line in lines] == (["1", "1", "1", "3"] if names else ["3", "3"])


def test_days_that_are_not_over_are_not_compared(admin: Client) -> None:
    for days_ago in range(1, 8):
        make_call(started_at=midnight() - timedelta(days=days_ago))
    query = {"by": "model", "last": f"{midnight() + timedelta(days=2):%Y-%m-%d}"}
    for days_ago in (1, 2):  # of four and five days one and two are over
        first = f"{midnight() - timedelta(days=days_ago):%Y-%m-%d}"
        total = usage_lines(admin, first=first, **query)[-1]
        assert (total["first_day"], total["last_day"], total["calls"]) == (first, query["last"], str(days_ago))
        assert total["cost_before_usd"] == total["cost_compared_usd"] == total["cost_usd"]
        assert total["compared_last_day"] == f"{midnight() - timedelta(days=1):%Y-%m-%d}"
    page = text_of(admin.get(USAGE, {"first": first, **query}).content.decode())
    earlier = f"{midnight() - timedelta(days=7):%Y-%m-%d} to {midnight() - timedelta(days=6):%Y-%m-%d}"
    assert f"Changes compare {first} to {midnight() - timedelta(days=1):%Y-%m-%d} with {earlier}, UTC" in page
    today = usage_lines(admin, first=f"{midnight():%Y-%m-%d}", **query)[-1]
    assert {today[name] for name in ("cost_before_usd", "cost_compared_usd", "compared_last_day")} == {""}


def test_calls_with_a_tag_without_a_value_are_not_those_without_the_tag(admin: Client) -> None:
    for tags in (["project"], ["project=x"], []):
        make_call(tags=tags)
    query = {"by": "tag:project", "range": "today"}
    rows = admin.get(USAGE, query).context["spending"].rows
    assert {row.cells[0].text: bool(row.cells[0].query) for row in rows} == {
        "x": True, "(no value)": True, "(none)": False,
    }  # fmt: skip
    exported = [line["tag:project"] for line in usage_lines(admin, **query)]
    assert sorted(exported[:3]) == ["(no value)", "(none)", "x"]
