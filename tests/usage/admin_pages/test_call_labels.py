"""What a call was for, on pages: in the list and its exports, on the call's page, in the log, and as a filter."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tests.support.ledger.pages import REQUESTS, listed, make_call, page_of, pieces_of, text_of
from usage.page_data.filters import Filters, conditions_of

pytestmark = pytest.mark.django_db

LABELS: dict[str, Any] = {
    "team": "red", "owner": "Ada", "end_user": "customer-17", "session": "talk 1", "tags": ["project=x", "night"],
}  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        {"team": "red"},
        {"owner": "Ada"},
        {"end_user": "customer-17"},
        {"session": "talk 1"},
        {"tag": "project"},
        {"tag": "project=x"},
        {"tag": "night"},
        {"team": "red", "tag": "night", "end_user": "customer-17"},
    ],
    ids=str,
)
def test_the_list_is_filtered_by_each(admin: Client, query: dict[str, str]) -> None:
    found = make_call(2, **LABELS)
    other = make_call(
        1, **{name: f"other {value}" for name, value in LABELS.items() if name != "tags"}, tags=["projec"]
    )
    assert listed(admin, **query) == [found]
    assert listed(admin, **dict.fromkeys(query, "nobody")) == []
    assert listed(admin) == [other, found]


@pytest.mark.parametrize("name", ["team", "owner", "end_user", "session"])
def test_calls_without_one_are_found(admin: Client, name: str) -> None:
    make_call(2, **LABELS)
    without = make_call(1)
    assert listed(admin, **{name: "(none)"}) == [without]


def test_a_call_shows_them_with_links_to_similar_calls(admin: Client) -> None:
    page = admin.get(page_of(make_call(**LABELS))).content.decode()
    seen = text_of(page)
    for words in ("Team red", "Key owner Ada", "End user customer-17", "Session talk 1", "Tags project=x night"):
        assert words in seen
    assert f"{REQUESTS}?tag=project%3Dx" in page
    assert f"{REQUESTS}?end_user=customer-17" in page
    assert "red · customer-17" in text_of(admin.get(REQUESTS).content.decode())


def test_an_export_has_them(admin: Client) -> None:
    make_call(**LABELS)
    answer = admin.get("/admin/usage/request/export.csv", {"team": "red"})
    [line] = csv.DictReader(b"".join(pieces_of(answer)).decode().splitlines())
    assert [line[name] for name in ("team", "owner", "end_user", "session", "tags")] == [
        "red", "Ada", "customer-17", "talk 1", "project=x, night",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(team="red"), "team"),
        (Filters(owner="Ada"), "owner"),
        (Filters(end_user="x"), "end_user"),
        (Filters(session="s"), "session"),
        (Filters(tag="a"), "tagged"),
    ],
)
def test_a_filter_can_use_its_index(filters: Filters, index: str) -> None:
    condition = next(one for one in conditions_of(filters) if one.has_index)
    query = f"SELECT request_id FROM usage_request WHERE {condition.sql} ORDER BY request_id DESC LIMIT 10"  # noqa: S608  (our own condition)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {query}", condition.values)
        plan = [line for (line,) in cursor.fetchall() if "Scan" in line]
    assert plan
    assert all(f"using usage_request_{index}" in line for line in plan)
