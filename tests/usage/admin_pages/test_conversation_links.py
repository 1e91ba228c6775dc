"""From the list of requests to the conversation that a call is a part of, and the filters by yes and no."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.support.ledger.pages import REQUESTS, listed, make_call, page_of

pytestmark = pytest.mark.django_db


def test_a_call_of_a_conversation_leads_to_all_of_its_calls(admin: Client) -> None:
    talked = [make_call(number, session="chat & 1") for number in (2, 1)]
    alone = make_call(0)
    page = admin.get(REQUESTS).content.decode()

    links = re.findall(r'href="([^"]*)"[^>]*>conversation</a>', page)
    assert len(links) == 2
    seen = admin.get(links[0]).content.decode()
    assert all(page_of(one) in seen for one in talked)
    assert page_of(alone) not in seen
    assert listed(admin, conversation="yes") == talked[::-1]
    assert listed(admin, conversation="no") == [alone]


@pytest.mark.parametrize("name", ["conversation", "stream"])
def test_a_filter_that_is_neither_yes_nor_no_is_said_not_to_apply(admin: Client, name: str) -> None:
    made = make_call()

    assert admin.get(REQUESTS, {name: "maybe"}).context["filters"].faults == ("'maybe' is neither yes nor no.",)
    assert listed(admin, **{name: "maybe"}) == [made]
    assert admin.get(REQUESTS, {name: ""}).context["filters"].faults == ()
