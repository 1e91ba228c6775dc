"""From one call to the next, newer or older, within the filters of the list from which it was opened."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.test import Client

from proxyapi.models import AccessKey
from proxyapi.pages.team_admin import MOST_FOUND
from tests.support.ledger.pages import REQUESTS, make_call, make_failure, page_of, text_of
from usage.page_data.call_search import index_scan
from usage.page_data.conversations import neighbours, session_calls
from usage.page_data.conversations.neighbours import find_neighbours
from usage.page_data.filters import Filters

pytestmark = pytest.mark.django_db


def around(filters: Filters, call_id: str) -> tuple[str, str]:
    found = find_neighbours(filters, UUID(call_id))
    assert found.is_newest == (found.newer is None)
    assert found.older_below is None
    return str(found.newer or ""), str(found.older or "")


@pytest.fixture
def calls() -> list[str]:
    """Makes eight calls, the newest first; every second is of the key `even`, and the last two have failed."""
    made = [make_call(number, key_name="even" if number % 2 == 0 else "odd", duration_ms=1000.0 * number)
            for number in range(6)]  # fmt: skip
    return [*made, make_failure(6, key_name="even"), make_failure(7, key_name="odd")]


@pytest.mark.parametrize("slice_size", [1, 1000])
def test_they_are_the_next_that_match(calls: list[str], monkeypatch: pytest.MonkeyPatch, slice_size: int) -> None:
    monkeypatch.setattr(index_scan, "FIRST_SLICE", slice_size)

    assert around(Filters(), calls[0]) == ("", calls[1])
    assert around(Filters(), calls[3]) == (calls[2], calls[4])
    assert around(Filters(), calls[7]) == (calls[6], "")
    assert around(Filters(key="even"), calls[2]) == (calls[0], calls[4])
    assert around(Filters(key="even"), calls[3]) == (calls[2], calls[4])
    assert around(Filters(outcome="failed"), calls[1]) == ("", calls[6])
    assert around(Filters(slower="2.5"), calls[5]) == (calls[4], "")
    assert around(Filters(q="odd"), calls[4]) == (calls[3], calls[5])


def test_a_search_that_ran_out_of_time_does_not_say_that_there_is_none(
    admin: Client, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filters = {"caller": "192.0.2.99"}
    assert 'class="cp-none">This is the oldest call<' in (
        whole := admin.get(page_of(calls[3]), filters).content.decode()
    )
    assert 'class="cp-none">This is the newest call<' in whole

    monkeypatch.setattr(index_scan, "FIRST_SLICE", 1)
    monkeypatch.setattr(neighbours, "PAGE_SECONDS", 0)
    page = admin.get(page_of(calls[3]), {**filters, "sort": "duration"}).content.decode()
    assert f'href="{REQUESTS}?caller=192.0.2.99&amp;sort=duration">Matching calls<' in page
    assert 'class="cp-none">This is the oldest call<' not in page
    assert 'class="cp-none">This is the newest call<' not in page
    assert "No newer call nearby" in page
    assert f'href="{REQUESTS}?caller=192.0.2.99&amp;before={calls[4]}">Search older calls<' in page


def test_the_page_of_a_call_leads_to_them(admin: Client, calls: list[str]) -> None:
    page = admin.get(page_of(calls[2]), {"key": "even", "view": "json"}).content.decode()

    assert f'rel="prev" data-key="k" href="{page_of(calls[0])}?key=even&amp;view=json"' in page
    assert f'rel="next" data-key="j" href="{page_of(calls[4])}?key=even&amp;view=json"' in page
    assert 'href="/admin/usage/request/?key=even"' in page


def test_a_list_hands_its_filters_on(admin: Client, calls: list[str]) -> None:
    assert f'{page_of(calls[0])}?key=even"' in admin.get("/admin/usage/request/", {"key": "even"}).content.decode()


@pytest.mark.parametrize(
    ("term", "words"), [("req", "Requests"), ("EVEN", "Calls of this key"), ("gpt-4o", "Calls of this model")]
)
def test_the_dialog_of_ctrl_k_finds_them(admin: Client, calls: list[str], term: str, words: str) -> None:
    assert words in admin.get("/admin/search/", {"s": term, "extended": "1"}).content.decode()


def test_the_dialog_finds_the_first_keys_of_many(admin: Client) -> None:
    AccessKey.objects.bulk_create(AccessKey(name=f"many {number:03}", digest=f"{number:064}") for number in range(30))
    found = admin.get("/admin/search/", {"s": "many", "extended": "1"}).content.decode()
    listed = admin.get("/admin/proxyapi/accesskey/", {"q": "many"}).context["cl"]

    assert found.count('data-title="many ') == MOST_FOUND
    assert listed.result_count == 30


def test_the_dialog_finds_a_call_by_its_id(admin: Client, calls: list[str]) -> None:
    found = admin.get("/admin/search/", {"s": calls[3], "extended": "1"}).content.decode()

    assert page_of(calls[3]) in found


def test_the_calls_of_a_session_in_order(admin: Client) -> None:
    made = [make_call(9 - number, session="s & 1", end_user="ann" if number else "") for number in range(3)]
    make_call(1, session="another")
    page = admin.get("/admin/usage/request/in-order/", {"session": "s & 1"})

    found = page.context["found"]
    assert [str(one.call.pk) for one in found.calls] == made
    assert [one.cost_so_far for one in found.calls] == [one.call.cost * (n + 1) for n, one in enumerate(found.calls)]
    assert found.calls[0].pause_ms is None
    assert 59_000 < found.calls[1].pause_ms < 60_000
    assert f"{page_of(made[0])}?session=s+%26+1" in page.content.decode()
    of_user = admin.get("/admin/usage/request/in-order/", {"end_user": "ann", "after": made[1]}).context["found"]
    assert [str(one.call.pk) for one in of_user.calls] == [made[2]]
    assert "in-order/?session=s+%26+1" in admin.get(page_of(made[0])).content.decode()


def test_a_later_page_of_a_session_does_not_speak_for_the_whole_session(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_calls, "MAX_CALLS", 2)
    made = [make_call(9 - number, session="s") for number in range(3)]
    first, last = (
        text_of(admin.get(f"{REQUESTS}in-order/", {"session": "s", **after}).content.decode())
        for after in ({}, {"after": made[1]})
    )

    assert "2 or more calls" in first
    assert "Cost so far" in first
    assert "on this page Time" in first
    assert "1 call, " in last
    assert "Cost on this page" in last
    assert "so far" not in last
    assert "on this page Time" in last


def test_no_session_is_no_session(admin: Client) -> None:
    make_call(1)

    assert admin.get("/admin/usage/request/in-order/").context["found"] is None
