"""From a page of the list of requests, and from a whole conversation, one comes back to where one was."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import unescape

import pytest
from django.test import Client

from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import REQUESTS, make_call, page_of
from usage.journal_shipping.rows import write_rows
from usage.page_data.conversations import new_turns, session_calls

pytestmark = pytest.mark.django_db
IN_ORDER = f"{REQUESTS}in-order/"


def test_one_goes_back_page_by_page(admin: Client) -> None:
    now = datetime.now(UTC)
    write_rows([call(now, request_id=call_id(now, number), key_name="k") for number in range(180)])

    def follow(page: str, name: str) -> str:
        link = re.search(rf'href="(\?[^"]*)">{name}</a>', page)
        return admin.get(REQUESTS + unescape(link[1])).content.decode() if link else ""

    def calls_on(page: str) -> list[str]:
        return re.findall(r'href="/admin/usage/request/([0-9a-f-]{36})/change/', page)

    there = [admin.get(f"{REQUESTS}?key=k").content.decode()]
    while page := follow(there[-1], "Older"):
        there.append(page)
    back = [there[-1]]
    while page := follow(back[-1], "Newer"):
        back.append(page)
    assert [calls_on(page) for page in back] == [calls_on(page) for page in reversed(there)]
    assert len(there) == 4
    # A page that was opened by another link knows no page before it.
    assert ">Newer<" not in admin.get(REQUESTS, {"before": call_id(now, 90)}).content.decode()
    assert ">Newer<" not in admin.get(REQUESTS, {"before": call_id(now, 90), "pages": "x"}).content.decode()


def test_a_long_command_is_folded_at_first(admin: Client) -> None:
    body = json.dumps({"model": "gpt-4o", "input": "x" * 9000})
    short, long = (admin.get(page_of(make_call(request_body=text))).content.decode() for text in ("{}", body))
    assert "<details open><summary>curl</summary>" in short
    assert "<details><summary>curl</summary>" in long


def test_a_whole_conversation_leads_back_to_its_call(admin: Client) -> None:
    request_id = make_call(session="s 1")
    page = admin.get(page_of(request_id)).content.decode()
    link = re.search(r'href="([^"]*in-order/[^"]*)">Whole conversation', page)
    assert link
    whole = admin.get(unescape(link[1])).content.decode()
    assert f'href="{page_of(request_id)}">Back to the call</a>' in whole
    assert f'href="{REQUESTS}?session=s+1">These calls in Requests</a>' in whole


def test_each_later_page_of_a_conversation_leads_back_to_the_call(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_call(5 - number, session="s", request_body='{"input": "Hi"}') for number in range(4)]
    monkeypatch.setattr(session_calls, "MAX_CALLS", 3)
    monkeypatch.setattr(new_turns, "MAX_PAGE_CHARACTERS", 1)
    page = admin.get(IN_ORDER, {"session": "s", "call": made[0]}).content.decode()
    later = {words: unescape(link) for link, words in re.findall(r'href="(\?[^"]*after=[^"]*)">([^<]*)</a>', page)}
    assert list(later) == ["Show the calls and texts from here", "Later calls"]
    back = f'href="{page_of(made[0])}">Back to the call</a>'
    assert all(back in admin.get(IN_ORDER + link).content.decode() for link in later.values())
