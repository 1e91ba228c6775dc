"""The list of requests: found by any id and by text, filtered, paged without counting, never changed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import HOSTILE, OVERRIDE, REQUESTS, listed, make_call, make_failure, page_of, text_of
from usage.journal_shipping.rows import write_rows
from usage.models import Request
from usage.page_data import search
from usage.page_data.call_search import index_scan
from usage.page_data.call_search.searched_words import split_words
from usage.page_data.filters import read_filters

pytestmark = pytest.mark.django_db


def test_it_works(admin: Client) -> None:
    call_id = make_call(cached_tokens=200, error_code="")
    answer = admin.get(REQUESTS)

    assert answer.status_code == 200
    assert page_of(call_id) in answer.content.decode()
    seen = text_of(answer.content.decode())
    for words in ("default", "/openai", "gpt-4o-mini-2024-07-18", "812", "1,000", "200 cached", "500", "$0.000435"):
        assert words in seen


@pytest.mark.parametrize("column", ["request_id", "incoming_request_id", "upstream_request_id", "response_id"])
def test_a_call_is_found_by_each_of_its_ids(admin: Client, column: str) -> None:
    names = ("incoming_request_id", "upstream_request_id", "response_id")
    ids = [make_call(**{name: f"{name}-{number}" for name in names}) for number in range(3)]
    wanted = Request.objects.get(pk=ids[1])

    assert listed(admin, q=str(getattr(wanted, column))) == [ids[1]]


def test_a_call_is_found_by_a_part_of_its_key_its_model_or_its_error(admin: Client) -> None:
    found = make_failure(key_name="marketing", request_model="gpt-5-pro", error_message="Rate limit reached for gpt-5")
    make_call()

    assert listed(admin, q="market") == listed(admin, q="5-PRO") == listed(admin, q="LIMIT reached") == [found]
    assert listed(admin, q="upstream_time") == [found]


def test_what_is_found_by_its_key_and_by_its_error_is_listed_once_and_in_order(admin: Client) -> None:
    ids = [
        make_call(3, key_name="team-red"),
        make_failure(2, key_name="team-red", error_message="for team-red"),
        make_failure(1, error_message="team-red is over"),
    ]

    assert listed(admin, q="team-red") == ids[::-1]


@pytest.mark.parametrize(
    "query",
    ["nothing-like-it", "'; DROP TABLE usage_request; --", HOSTILE, "%", "_", "\\", "x" * 5000, "a\0b", OVERRIDE],
)
def test_a_search_for_nothing_finds_nothing(admin: Client, query: str) -> None:
    make_call()
    make_failure(error_message="plain", error_code="code", request_model="")

    assert listed(admin, q=query) == []


@pytest.mark.parametrize(
    ("columns", "query"),
    [
        ({"outcome": "timeout", "status": 504}, {"outcome": "timeout"}),
        ({"outcome": "timeout", "status": 504}, {"outcome": "failed"}),
        ({"stream": True}, {"stream": "yes"}),
        ({"key_name": "another"}, {"key": "another"}),
        ({"route": "/openai2"}, {"route": "/openai2"}),
        ({"response_model": "gpt-5-pro"}, {"model": "gpt-5-pro"}),
        ({"response_model": "", "request_model": "asked"}, {"model": "asked"}),
        ({"response_model": "", "request_model": ""}, {"model": "(none)"}),
        ({"status": 504, "outcome": "timeout"}, {"status": "504"}),
        ({"status": 206}, {"status": "206"}),
        ({"status": None, "outcome": "client_cancelled"}, {"status": "none"}),
        ({"error_code": "slow", "outcome": "timeout"}, {"code": "slow"}),
        ({"output_tokens": 10**6}, {"cost": "0.1"}),
        ({"duration_ms": 61000.0}, {"slower": "60"}),
        ({"client_address": "192.0.2.7"}, {"caller": "192.0.2.7"}),
        ({"key_name": "another", "stream": True}, {"key": "another", "stream": "yes", "q": "anoth"}),
    ],
    ids=str,
)
def test_the_list_is_filtered(admin: Client, columns: dict[str, Any], query: dict[str, str]) -> None:
    found = make_call(5, **columns)
    make_call()
    make_call(10)

    assert listed(admin, **query) == [found]


def test_the_list_is_filtered_by_time(admin: Client) -> None:
    old, found = make_call(9 * 24 * 60), make_call(120)
    new = make_call()
    since, until = (datetime.now(UTC) - timedelta(hours=hours) for hours in (24, 1))

    assert listed(admin, **{"from": since.isoformat(), "to": until.isoformat()}) == [found]
    assert listed(admin, range="hour") == [new]
    assert listed(admin, range="month") == [new, found, old]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "x"}, {"cost": "much"}, {"from": "then"}, {"outcome": "?"}, {"caller": "me"},
        *({name: number} for name in ("cost", "slower") for number in ("1e-20000", "0e-20000", "0e20000")),
        {"cost": f"0.{'0' * 20_000}1"},
    ],
    ids=lambda query: str(query)[:40],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_said_and_left_out(admin: Client, query: dict[str, str]) -> None:
    request_id = make_call()
    answer = admin.get(REQUESTS, query)

    assert 'role="alert"' in answer.content.decode()
    assert [str(call.pk) for call in answer.context["calls"]] == [request_id]


def test_pages_follow_each_other_without_a_gap(admin: Client) -> None:
    now = datetime.now(UTC)
    rows = [call(now, request_id=call_id(now, number), key_name=f"k{number % 3}") for number in range(130)]
    write_rows(rows)
    seen: list[str] = []
    query = "?key=k1"
    while query:
        page = admin.get(REQUESTS + query).content.decode()
        seen += re.findall(r'href="/admin/usage/request/([0-9a-f-]{36})/change/(?:\?[^"]*)?"', page)
        older = re.search(r'href="(\?[^"]*before=[^"]*)">Older', page)
        query = older[1].replace("&amp;", "&") if older else ""

    wanted = [row["request_id"] for row in rows if row["key_name"] == "k1"]
    assert seen == wanted[::-1]


def test_a_walk_that_runs_out_of_time_says_how_far_it_came_and_goes_on(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 10)
    now = datetime.now(UTC)
    write_rows([call(now, request_id=call_id(now, number), stream=number == 0) for number in range(25)])
    filters = read_filters({"stream": "yes"}, now)
    pages: list[search.Page] = []
    before = None
    while not pages or before:
        page = search.find(filters, before, max_seconds=0)
        pages.append(page)
        before = page.before

    assert [len(page.calls) for page in pages] == [0, 0, 1]
    assert pages[0].searched_to is not None
    assert abs(pages[0].searched_to - now) < timedelta(seconds=1)
    assert pages[2].before is None


@pytest.mark.parametrize(
    "query", [{}, {"q": "gpt"}, {"key": "k1"}, {"outcome": "failed"}, {"cost": "0"}, {"slower": "0"}]
)
def test_everything_is_exported_whatever_is_walked_along(
    query: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 7)
    monkeypatch.setattr(search, "MAX_RARE_CALLS", 5)
    now = datetime.now(UTC)
    rows = [
        call(
            now - timedelta(seconds=number), key_name=f"k{number % 2}", cost="0.5",
            **({"outcome": "timeout", "error_message": "gpt is slow"} if number % 5 == 0 else {}),
        )
        for number in range(60)
    ]  # fmt: skip
    write_rows(rows)
    found = [str(call.pk) for batch in search.find_all(read_filters(query, now), batch=10) for call in batch]

    wanted = rows
    if "key" in query:
        wanted = [row for row in rows if row["key_name"] == "k1"]
    if "outcome" in query:
        wanted = [row for row in rows if row["outcome"] == "timeout"]
    assert found == [row["request_id"] for row in wanted]


def test_the_filters_offer_what_there_is(admin: Client) -> None:
    make_call(key_name="another", route="/openai2", response_model="gpt-5-pro")
    text = admin.get(REQUESTS).content.decode()

    for value in ("another", "/openai2", "gpt-5-pro"):
        assert f'<option value="{value}">' in text


def test_an_empty_list_says_what_to_do(admin: Client) -> None:
    assert "how to make the first one" in admin.get(REQUESTS).content.decode()
    assert "No matching calls" in admin.get(REQUESTS, {"key": "x"}).content.decode()


# Read only


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["add/", "{id}/delete/"])
def test_no_call_is_added_or_deleted(admin: Client, method: str, page: str) -> None:
    request_id = make_call()
    answer = getattr(admin, method)(REQUESTS + page.format(id=request_id), {"post": "yes", "key_name": "forged"})

    assert answer.status_code == 403
    assert list(Request.objects.values_list("pk", "key_name")) == [(UUID(request_id), "default")]


def test_no_call_is_changed_or_deleted_by_an_action(admin: Client) -> None:
    request_id = make_call()
    admin.post(page_of(request_id), {"key_name": "forged", "status": "500"})
    admin.post(REQUESTS, {"action": "delete_selected", "_selected_action": [request_id], "post": "yes"})

    call = Request.objects.get()
    assert (call.key_name, call.status) == ("default", 200)


@pytest.mark.parametrize("staff", [False, True], ids=["no-account", "staff-without-permission"])
@pytest.mark.parametrize(
    "page",
    [REQUESTS, "{one}", "/admin/usage/errors/", "/admin/usage/dashboard.json", "/admin/usage/request/export.csv",
     "/admin/usage/errors/export.json"],
)  # fmt: skip
def test_nobody_else_sees_calls(staff: bool, page: str) -> None:
    one = page_of(make_call())
    client = Client()
    if staff:
        client.force_login(User.objects.create_user("staff", is_staff=True))

    assert client.get(page.format(one=one)).status_code == (403 if staff else 302)


# Hostile text


def test_hostile_text_is_shown_as_text(admin: Client) -> None:
    columns = ("key_name", "route", "request_model", "response_model", "error_code", "error_type", "error_message",
               "user_agent", "incoming_request_id", "upstream_request_id", "response_id", "service_tier")  # fmt: skip
    text = f"{OVERRIDE}{HOSTILE}"[:45]
    request_id = make_failure(**dict.fromkeys(columns, text), usage={HOSTILE: HOSTILE}, tags=[HOSTILE])

    for page in (REQUESTS, page_of(request_id), f"{REQUESTS}?q={HOSTILE}", "/admin/", "/admin/usage/errors/"):
        shown = admin.get(page).content.decode()
        assert "<script>alert(1)" not in shown
        assert "&lt;script&gt;alert(1)" in shown
        visible = re.sub(
            r'(?:value|href)="[^"]*"|<option.*?</option>|<script id="charts".*?</script>', "", shown, flags=re.S
        )
        assert OVERRIDE not in visible, page


# Cost


def test_the_list_costs_as_many_queries_for_50_calls_as_for_one(admin: Client) -> None:
    counts = []
    for more in (1, 49):
        write_rows([call(datetime.now(UTC)) for _ in range(more)])
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(REQUESTS).status_code == 200
        counts.append(len(queries))
        assert not any("COUNT(*)" in query["sql"] for query in queries)
        assert not any("OFFSET" in query["sql"] for query in queries)
        assert not any("usage_usagetotal" in query["sql"] for query in queries)  # lists of choices grow with it

    assert counts[0] == counts[1]
    assert counts[1] <= 13


@pytest.mark.parametrize("text", ["x" * 198, "x" * 199, "x" * 250, "one two " * 40, '"a" ' * 60, "x" * 197 + " y"])
def test_a_long_find_leads_to_one_phrase(admin: Client, text: str) -> None:
    query = dict(parse_qsl(admin.get(REQUESTS, {"q": text}).context["words_query"]))
    filters = read_filters(query, datetime.now(UTC), with_messages=True)

    assert filters.faults == ()
    assert split_words(filters.text) == [filters.text.strip('"')]
    assert filters.text == f'"{filters.text[1:-1]}"'
