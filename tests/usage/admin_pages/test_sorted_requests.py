"""The list of requests, sorted by duration, cost or output tokens instead of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client

from tests.support.ledger.pages import DASHBOARD, REQUESTS, listed, make_call, make_failure, text_of
from usage.models import Request
from usage.page_data.call_search import index_scan, sorted_calls
from usage.page_data.call_search.index_scan import joined
from usage.page_data.filters import SORTS, Condition, read_filters

pytestmark = pytest.mark.django_db


def make_calls(values: list[int]) -> list[str]:
    """Makes a call for each value, the newest last, whose duration, cost and output tokens are in the same order."""
    ids = []
    for number, value in enumerate(values):
        columns = {"duration_ms": 1000.0 * value, "output_tokens": 100 * value, "key_name": f"key {value % 2}"}
        ids.append(make_call(len(values) - number, **columns))
    for call_id, value in zip(ids, values, strict=True):
        Request.objects.filter(pk=call_id).update(cost=Decimal(value))
    return ids


@pytest.mark.parametrize("sort", SORTS)
def test_it_works(admin: Client, sort: str) -> None:
    second, fourth, first, third = make_calls([7, 2, 9, 4])

    assert listed(admin, sort=sort) == [first, second, third, fourth]
    assert listed(admin, sort=sort, key="key 1") == [first, second]
    assert listed(admin, sort=sort, key="key 0", range="day") == [third, fourth]
    assert listed(admin) == [third, first, fourth, second]


@pytest.mark.parametrize("sort", SORTS)
def test_an_unknown_value_comes_last(admin: Client, sort: str) -> None:
    known = make_calls([2, 1])
    unknown = make_failure(0)
    Request.objects.filter(pk=unknown).update(cost=None, output_tokens=None, duration_ms=0.0)

    assert listed(admin, sort=sort) == [*known, unknown]


@pytest.mark.parametrize("sort", SORTS)
def test_heads_and_forms_keep_the_filters_and_the_order(admin: Client, sort: str) -> None:
    make_calls([1, 2])
    page = admin.get(REQUESTS, {"key": "key 1", "range": "day", "sort": sort}).content.decode()

    heads = re.search(r"<thead>.*?</thead>", page, flags=re.S)
    assert heads
    links = re.findall(r'href="\?([^"]*)"', heads[0])
    assert len(links) == 3  # the two other columns, and the time
    assert all("key=key+1" in link and "range=day" in link for link in links)
    assert heads[0].count('aria-sort="descending"') == 1
    assert f'<option value="{sort}" selected>' in page
    assert re.search(rf'href="{REQUESTS}[^"]*sort={sort}[&"]', page)  # from a call, the way back has the order


@pytest.mark.parametrize("sort", ["duration", "cost"])
def test_of_too_many_calls_the_largest_come_from_the_index(
    admin: Client, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 2)
    monkeypatch.setattr(sorted_calls, "COMPARE_SECONDS", 0.0)
    monkeypatch.setattr(sorted_calls, "PAGE_SIZE", 3)
    ids = make_calls([9, 2, 8, 1, 7, 3, 1, 1])

    answer = admin.get(REQUESTS, {"sort": sort})

    assert [str(call.pk) for call in answer.context["calls"]] == [ids[0], ids[2], ids[4]]
    assert "The 3 matching calls with the highest" in text_of(answer.content.decode())


def test_where_not_all_calls_can_be_compared_the_page_says_so(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 2)
    monkeypatch.setattr(sorted_calls, "COMPARE_SECONDS", 0.0)
    ids = make_calls([9, 2, 8, 1, 7])

    answer = admin.get(REQUESTS, {"sort": "output"})

    assert [str(call.pk) for call in answer.context["calls"]] == [ids[4], ids[3]]
    assert "Choose a shorter time or more filters" in text_of(answer.content.decode())


def test_an_index_that_takes_too_long_is_left_and_the_page_says_so(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the slowest calls are all of other days: those of the requested days come very late in the index."""
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 2)
    monkeypatch.setattr(sorted_calls, "COMPARE_SECONDS", 0.0)
    monkeypatch.setattr(sorted_calls, "PAGE_SIZE", 3)
    monkeypatch.setattr(sorted_calls, "INDEX_SECONDS", 0.01)
    slow = Condition("(SELECT pg_sleep(60)) IS NOT NULL")
    monkeypatch.setattr(sorted_calls, "joined", lambda conditions: joined([*conditions, slow]))
    ids = make_calls([9, 2, 8, 1, 7])

    for query in ({}, {"key": "key 1"}):
        answer = admin.get(REQUESTS, {"sort": "duration", **query})

        assert answer.context["page"].searched_to is not None
        assert str(answer.context["calls"][0].pk) in {ids[4], ids[3]}
        assert "Choose a shorter time or more filters" in text_of(answer.content.decode())
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_the_sums_above_a_sorted_list_are_of_all_calls(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_calls, "PAGE_SIZE", 2)
    make_calls([1, 2, 3])

    answer = admin.get(REQUESTS, {"sort": "cost", "slower": "0"})

    assert len(answer.context["calls"]) == 2
    assert "3 calls, $6.00" in text_of(answer.content.decode())


def test_an_order_that_cannot_be_had_is_said(admin: Client) -> None:
    newest_last = make_calls([3, 1])

    for query in ({"sort": "key_name"}, {"sort": "cost", "text": "hello"}):
        answer = admin.get(REQUESTS, query)
        assert answer.context["filters"].sort == ""
        assert len(answer.context["filters"].faults) == 1
    assert listed(admin, sort="key_name") == newest_last[::-1]


def test_who_may_not_search_prompts_keeps_the_order() -> None:
    filters = read_filters({"sort": "cost", "text": "hello"}, datetime.now(UTC), with_messages=False)

    assert (filters.sort, filters.text, len(filters.faults)) == ("cost", "", 1)


def test_the_way_to_a_search_of_prompts_leaves_the_order_behind(admin: Client) -> None:
    page = admin.get(REQUESTS, {"sort": "cost", "q": "hello", "key": "k"}).content.decode()
    found = re.search(r'href="(\?[^"]*)">Search prompts and answers', page)

    assert found
    assert "sort=" not in found[1]
    assert "key=k" in found[1]


def test_a_point_of_the_latency_leads_to_the_longest_calls(admin: Client) -> None:
    page = admin.get(DASHBOARD).content.decode()
    assert re.search(r'data-chart="latency"[^>]*data-calls="[^"]*&amp;sort=duration"', page)
