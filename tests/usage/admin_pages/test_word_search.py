"""The list of requests finds words in prompts and answers, for people who may see them, and shows what is around."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.test import Client

from tests.support.callers.roles import EVERYBODY, browser_of, have_groups, person
from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import (
    HOSTILE,
    OVERRIDE,
    REQUESTS,
    listed,
    make_call,
    make_failure,
    page_of,
    pieces_of,
    text_of,
)
from usage.journal_shipping.rows import write_rows
from usage.models import RequestBody
from usage.page_data import search
from usage.page_data.call_search import index_scan, word_search
from usage.page_data.call_search.searched_words import MAX_WORDS
from usage.page_data.conversations import neighbours
from usage.page_data.conversations.neighbours import Neighbours, find_neighbours
from usage.page_data.filters import MAX_TEXT, read_filters

pytestmark = pytest.mark.django_db
SEES_BODIES = ("analyst", "admin", "superuser")
NOW = datetime.now(UTC)


def asking(content: str, **members: Any) -> str:
    """Returns the body of a chat's request, with all but ASCII escaped."""
    return json.dumps({"messages": [{"role": "user", "content": content}], **members})


def test_it_works(admin: Client) -> None:
    found = make_call(1, request_body=asking("Please pay the\ninvoice 4711 at the café."), response_body="Paid.")
    make_call(2, request_body=asking("Please pay the invoice 4712."), response_body="It says 4711.")
    make_call(3)
    answer = admin.get(REQUESTS, {"text": '"invoice 4711"'})

    assert [str(one.pk) for one in answer.context["calls"]] == [found]
    page = answer.content.decode()
    assert "Please pay the\n<mark>invoice 4711</mark> at the café." in page
    assert "Prompt" in text_of(page)
    assert 'name="text" value="&quot;invoice 4711&quot;"' in page
    assert page_of(found) + "?text=%22invoice+4711%22" in page
    assert "export.csv?text=%22invoice+4711%22" in page


@pytest.mark.parametrize(
    "text",
    ["invoice 4711", "CAFÉ", '"café, it\'s"', "quoted", "100%", "C:\\new", "請求書", "привет", "paid", "invoice paid"],
)
@pytest.mark.parametrize("is_ascii", [True, False])
def test_words_are_found_in_the_database(admin: Client, text: str, is_ascii: bool) -> None:
    content = 'invoice\n4711, café, it\'s "quoted", 100% of C:\\new, 請求書, Привет'
    body = json.dumps({"input": content}, ensure_ascii=is_ascii)
    found = make_call(request_body=body, response_body="Paid")
    make_call(request_body=json.dumps({"input": "another"}), response_body="No")

    assert listed(admin, text=text) == [found]


@pytest.mark.parametrize("text", ["%", "_", "\\", "a\0b", "x" * 10_000, HOSTILE, OVERRIDE, "'; DROP TABLE x; --", '"'])
def test_patterns_are_plain_text(admin: Client, text: str) -> None:
    make_call(request_body=asking("plain").replace('"', "'"), response_body="")

    assert listed(admin, text=text) == []


def test_a_text_that_is_too_long_is_cut_and_that_is_said(admin: Client) -> None:
    found = make_call(request_body=asking("x" * MAX_TEXT))
    answer = admin.get(REQUESTS, {"text": "x" * 10_000})

    assert [str(one.pk) for one in answer.context["calls"]] == [found]
    assert f"for the first {MAX_TEXT} characters" in answer.content.decode()


def test_too_many_words_are_cut_and_that_is_said(admin: Client) -> None:
    found = make_call(request_body=asking(" ".join(f"w{number}" for number in range(MAX_WORDS))))
    make_call(request_body=asking("w0"))
    answers = [admin.get(REQUESTS, {"text": " ".join(f"w{number}" for number in range(MAX_WORDS + more))})
               for more in (0, 1)]  # fmt: skip

    assert [[str(one.pk) for one in answer.context["calls"]] for answer in answers] == [[found], [found]]
    assert [f"for the first {MAX_WORDS} words" in answer.content.decode() for answer in answers] == [False, True]


@pytest.mark.parametrize(
    "query",
    [
        {"key": "red"}, {"outcome": "failed"}, {"range": "hour"}, {"team": "blue"}, {"tag": "project"},
        {"slower": "60"}, {"q": "red"}, {"model": "gpt-5"}, {"model": "gpt-5 (any date)"},
    ],
    ids=str,
)  # fmt: skip
def test_words_and_other_filters_hold_together(admin: Client, query: dict[str, str]) -> None:
    body = {"request_body": asking("invoice 4711")}
    named = {
        "key_name": "red",
        "team": "blue",
        "tags": ["project=x"],
        "duration_ms": 61_000.0,
        "response_model": "gpt-5",
    }
    found = make_failure(1, **named, **body)
    make_failure(2, **named, request_body=asking("invoice"), response_body="471")
    make_call(120, **body)

    assert listed(admin, text="4711 invoice", **query) == [found]


def test_hits_are_inert(admin: Client) -> None:
    make_call(request_body=asking(f"before {OVERRIDE}{HOSTILE} after"), response_body=f"{OVERRIDE} {HOSTILE}")
    page = admin.get(REQUESTS, {"text": "<script>alert(1)</script>"}).content.decode()

    assert "<script>alert(1)" not in page
    assert page.count("<mark>&lt;script&gt;alert(1)&lt;/script&gt;</mark>") == 2
    assert OVERRIDE not in page
    assert "&lt;U+202E&gt;" in page


@pytest.mark.parametrize("role", EVERYBODY)
def test_only_people_who_may_see_bodies_search_them(role: str) -> None:
    have_groups()
    found = make_call(request_body=asking("invoice 4711"))
    make_call()
    client = browser_of(person(role, "ada"))
    answer = client.get(REQUESTS, {"text": "invoice"})
    export = client.get(f"{REQUESTS}export.json", {"text": "invoice"})
    page, own = answer.content.decode(), client.get(page_of(found), {"text": "invoice"})

    assert own.status_code == 200
    if role in SEES_BODIES:
        assert [str(one.pk) for one in answer.context["calls"]] == [found]
        assert [row["request_id"] for row in json.loads(b"".join(pieces_of(export)))] == [found]
        return
    assert 'name="text"' not in page
    assert "your account has no permission" in page
    assert "<mark>" not in page
    assert len(answer.context["calls"]) == 2
    assert export.status_code == 403


def test_who_searches_is_in_the_log_if_the_setting_says_so(settings: LazySettings, admin: Client) -> None:
    for settings.AUDIT_BODY_VIEWS in (False, True):
        admin.get(REQUESTS, {"text": f"invoice {OVERRIDE}"})
        admin.get(REQUESTS)

    assert [entry.get_change_message() for entry in LogEntry.objects.all()] == [
        "Searched prompts and answers for “invoice <U+202E>”."
    ]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_words_are_in_the_log_wherever_they_are_searched_for(settings: LazySettings, admin: Client, kind: str) -> None:
    settings.AUDIT_BODY_VIEWS = True
    found = make_call(request_body=asking("Grüße"))
    admin.get(page_of(found), {"text": "Grüße"})
    admin.get(page_of(found))
    pieces_of(admin.get(f"{REQUESTS}export.{kind}", {"text": "Grüße", "q": "x" * MAX_TEXT}))

    said = [entry.get_change_message() for entry in LogEntry.objects.all()]
    assert said.count("Searched prompts and answers for “Grüße”.") == 2


@pytest.fixture
def calls() -> list[str]:
    """Makes 60 calls, of which each seventh has the word; the newest first. Their ids are returned."""
    rows = [
        call(NOW, request_id=call_id(NOW, number), key_name=f"k{number % 2}",
             request_body=asking("needle" if number % 7 == 0 else "hay"))
        for number in reversed(range(60))
    ]  # fmt: skip
    write_rows(rows)
    return [row["request_id"] for row in rows]


def with_word(calls: list[str]) -> list[str]:
    return [one for number, one in zip(reversed(range(60)), calls, strict=True) if number % 7 == 0]


@pytest.mark.parametrize("query", [{}, {"key": "k1"}, {"q": "k"}], ids=str)
@pytest.mark.parametrize("wanted", [1, 2, 50])
@pytest.mark.parametrize("max_seconds", [0, 5])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_search_goes_on_where_it_has_stopped(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], query: dict[str, str], wanted: int, max_seconds: float, size: int
) -> None:
    for name, value in {"FIRST_BATCH": size, "MIN_BATCH": size, "MAX_BATCH": size, "READ_AT_ONCE": 2}.items():
        monkeypatch.setattr(word_search, name, value)
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 5)
    filters = read_filters({"text": "needle", **query}, NOW, with_messages=True)
    seen: list[UUID] = []
    before, pages = None, 0
    while pages == 0 or before:
        page = search.find(filters, before, wanted, max_seconds)
        seen += [one.pk for one in page.calls]
        assert page.excerpts.keys() == {one.pk for one in page.calls}
        assert len(page.calls) <= wanted
        assert page.is_full or page.before is None or page.searched_to
        before, pages = page.before, pages + 1
        assert pages < 200

    assert list(map(str, seen)) == [one for one in with_word(calls) if "key" not in query or int(one[-1], 16) % 2]
    exported = [str(one.pk) for batch in search.find_all(filters, batch=3) for one in batch]
    assert exported == list(map(str, seen))


def test_a_search_that_ran_out_of_time_says_how_far_it_came(
    admin: Client, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    monkeypatch.setattr(word_search, "FIRST_BATCH", 2)
    monkeypatch.setattr(search, "WORDS_SECONDS", 0)
    page = admin.get(REQUESTS, {"text": "nothing"}).content.decode()

    assert f"Searched back to {NOW:%Y-%m-%d %H:%M}" in text_of(page)
    assert "text=nothing&amp;before=" in page
    assert "Search older calls" in page
    assert "No matching calls yet" in page


def test_the_time_is_looked_at_after_each_call(calls: list[str]) -> None:
    filters = read_filters({"text": "needle"}, NOW, with_messages=True)
    page = search.find(filters, max_seconds=0)

    assert [str(one.pk) for one in page.calls] == with_word(calls)[:1]
    assert page.before == page.calls[0].pk
    assert not page.is_full


def test_calls_without_bodies_are_not_searched(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    old = NOW - timedelta(days=1)
    write_rows([call(old, request_id=call_id(old, number)) for number in range(50)])
    filters = read_filters({"text": "nothing"}, NOW, with_messages=True)
    assert search.plan_scans(filters, None)[0].floor == UUID(calls[-1])

    RequestBody.objects.all().delete()
    assert search.find(filters) == search.Page([])


def test_the_next_call_of_the_list_has_the_words_too(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    monkeypatch.setattr(word_search, "FIRST_BATCH", 2)
    filters = read_filters({"text": "needle"}, NOW, with_messages=True)
    found = list(map(UUID, with_word(calls)))

    assert find_neighbours(filters, found[0]) == Neighbours(None, True, found[1], None)
    assert find_neighbours(filters, found[3]) == Neighbours(found[2], False, found[4], None)
    assert find_neighbours(filters, found[-1]) == Neighbours(found[-2], False, None, None)


def test_a_search_for_the_next_call_that_ran_out_of_time_says_so(
    monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    monkeypatch.setattr(neighbours, "WORDS_SECONDS", 0)
    monkeypatch.setattr(word_search, "FIRST_BATCH", 2)
    filters = read_filters({"text": "nothing"}, NOW, with_messages=True)

    assert find_neighbours(filters, UUID(calls[30])) == Neighbours(None, False, None, UUID(calls[32]))


def test_an_empty_find_leads_to_the_words(admin: Client) -> None:
    found = make_call(1, request_body=asking("Please pay the invoice 4711."))
    answer = admin.get(REQUESTS, {"q": "invoice 4711", "outcome": "success"})
    link = "?outcome=success&amp;text=%22invoice+4711%22"

    assert list(answer.context["calls"]) == []
    assert link in answer.content.decode()
    assert listed(admin, outcome="success", text='"invoice 4711"') == [found]
    assert "Search prompts" not in admin.get(REQUESTS, {"q": "x", "text": "y"}).content.decode()


def test_who_may_not_see_bodies_gets_no_link_to_the_words() -> None:
    have_groups()
    page = browser_of(person("viewer")).get(REQUESTS, {"q": "invoice 4711"}).content.decode()

    assert "No matching calls" in page
    assert "Search prompts" not in page
