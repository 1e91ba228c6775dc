"""The page of a session shows below each call what was said in it, to people who may see that."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.callers.roles import EVERYBODY, browser_of, have_groups, person
from tests.support.ledger.pages import HOSTILE, OVERRIDE, REQUESTS, make_call, make_failure, page_of, text_of
from tests.support.polling import PATIENCE
from usage.page_data.conversations import new_turns, session_calls

pytestmark = pytest.mark.django_db
IN_ORDER = f"{REQUESTS}in-order/"
SEES_BODIES = ("analyst", "admin", "superuser")
SYSTEM = {"role": "system", "content": "Rules of the house"}


@pytest.fixture(autouse=True)
def _time_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a page all the time to read: on a busy machine it would otherwise end before the last call."""
    monkeypatch.setattr(session_calls, "READ_SECONDS", PATIENCE)


def make_session(calls: int, session: str = "s") -> list[str]:
    """Makes the calls of a chat, of which each repeats the messages before; returns the calls' ids, oldest first."""
    messages, made = [SYSTEM], []
    for number in range(calls):
        messages.append({"role": "user", "content": f"Question {number}?"})
        answer = {"role": "assistant", "content": f"It is *answer* {number}."}
        bodies = {
            "request_body": json.dumps({"messages": messages}),
            "response_body": json.dumps({"choices": [{"message": answer}]}),
        }
        made.append(make_call(calls - number, session=session, end_user="ann", key_name="team a", **bodies))
        messages.append(answer)
    return made


def test_it_works(admin: Client) -> None:
    made = make_session(5)
    answer = admin.get(IN_ORDER, {"session": "s"})
    page = answer.content.decode()
    read = [text.format(number) for number in range(5) for text in ("Question {}?", "It is <em>answer</em> {}.")]

    assert all(page.count(text) == 1 for text in ("Rules of the house", *read))
    assert all(page.index(one) < page.index(other) for one, other in pairwise(read))
    assert page.index(page_of(made[1])) < page.index("Question 1?") < page.index(page_of(made[2]))
    assert answer.context["title"] == "Whole conversation"
    assert "Show the calls and texts from here" not in page
    link = f'href="{IN_ORDER}?session=s&amp;call={made[0]}">Whole conversation</a>'
    assert link in admin.get(page_of(made[0])).content.decode()


@pytest.mark.parametrize("role", EVERYBODY)
def test_only_people_who_may_see_bodies_see_what_was_said(settings: LazySettings, role: str) -> None:
    settings.AUDIT_BODY_VIEWS = True
    have_groups()
    made = make_session(2)
    make_failure(session="s", error_message="Bad word: Rules")
    with CaptureQueriesContext(connection) as queries:
        page = browser_of(person(role, "ada")).get(IN_ORDER, {"session": "s"}).content.decode()

    logged = list(LogEntry.objects.order_by("pk").values_list("user__username", "object_id", "change_message"))
    words = "Looked at the prompt and the answer of a call of the key “team a”."
    sees = role in SEES_BODIES
    assert "3 calls" in page
    assert ("Question 1?" in page, "Rules" in page, "usage_requestbody" in str(queries.captured_queries)) == (sees,) * 3
    assert logged == ([("ada", one, words) for one in made] if sees else [])


def test_texts_take_a_fixed_number_of_queries(settings: LazySettings, admin: Client) -> None:
    def count(session: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(IN_ORDER, {"session": session}).status_code == 200
        return len(queries)

    make_session(1, "short")
    make_session(40, "long")
    count("short")  # content types are remembered by the process
    for settings.AUDIT_BODY_VIEWS, expected in ((False, 6), (True, 7)):
        assert count("long") == count("short") <= expected


@pytest.mark.parametrize(("module", "name", "room"), [(session_calls, "MAX_BODY_BYTES", 1000),
                                                      (new_turns, "MAX_PAGE_CHARACTERS", 1000)])  # fmt: skip
def test_more_text_than_one_page_has_room_for(
    admin: Client, monkeypatch: pytest.MonkeyPatch, settings: LazySettings, module: object, name: str, room: int
) -> None:
    settings.AUDIT_BODY_VIEWS = True
    made = make_session(5)
    monkeypatch.setattr(module, name, room)
    answer = admin.get(IN_ORDER, {"session": "s"})
    page, read_to = answer.content.decode(), str(answer.context["read_to"])

    assert read_to in made[1:4]
    assert f"?session=s&amp;after={read_to}" in page
    last = made.index(read_to)
    assert f"Question {last}?" in page
    assert f"Question {last + 1}?" not in page
    assert [entry.object_id for entry in LogEntry.objects.order_by("pk")] == made[: last + 1]
    later = admin.get(IN_ORDER, {"session": "s", "after": read_to}).content.decode()
    assert f"Question {last + 1}?" in later
    assert "Question 0?" not in later


def test_reading_stops_when_its_time_is_up(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_session(2)
    monkeypatch.setattr(session_calls, "READ_SECONDS", 0)
    answer = admin.get(IN_ORDER, {"session": "s"})

    assert str(answer.context["read_to"]) == made[0]
    assert "Question 0?" in answer.content.decode()
    assert "Question 1?" not in answer.content.decode()


def test_calls_without_text_and_long_texts_say_so(admin: Client) -> None:
    made = make_call(session="s", request_body=json.dumps({"input": "a" * 9000}), route="/v1/responses")
    make_call(1, session="s")
    make_call(2, session="s", route="/v1/embeddings", request_body='{"input": "embedded"}')
    page = admin.get(IN_ORDER, {"session": "s"}).content.decode()

    assert page.count("data-text") == 1
    assert f'Shortened: <a href="{page_of(made)}?session=s#bodies">' in page
    assert "embedded" not in page


def test_what_was_said_is_inert(admin: Client) -> None:
    hostile = f"{OVERRIDE}{HOSTILE} [l](javascript:alert(3)) ![p](https://evil.example/p.png)"
    make_call(
        session="s", request_body=json.dumps({"messages": [{"role": hostile, "content": hostile}]}),
        response_body=json.dumps({"choices": [{"message": {"content": hostile}}]}),
    )  # fmt: skip
    page = admin.get(IN_ORDER, {"session": "s"}).content.decode()

    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "{{ 7*7 }}" in text_of(page)
    assert 'href="javascript' not in page
    assert "<img" not in page.partition('id="in-order"')[2]
    assert OVERRIDE not in page


def test_the_page_of_a_call_leads_to_its_duration_and_bill(admin: Client) -> None:
    page = admin.get(page_of(make_session(1)[0])).content.decode()

    for name, label in (("time", "Duration"), ("bill", "Bill")):
        assert f'<a href="#{name}">{label}</a>' in page
        assert f'id="{name}"' in page


def test_a_call_that_continues_another_leads_to_the_whole_conversation(admin: Client) -> None:
    body = json.dumps({"input": "More?", "previous_response_id": "resp_1"})
    page = admin.get(page_of(make_call(session="s", route="/v1/responses", request_body=body))).content.decode()

    assert re.search(rf'in the <a href="{IN_ORDER}\?session=s&amp;call=[0-9a-f-]{{36}}">whole conversation</a>', page)
