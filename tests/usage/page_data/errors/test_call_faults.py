"""Each page says by whose fault a call failed, in the same way as the page Errors, and its badge is red or amber."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.support.callers.roles import browser_of
from tests.support.ledger.pages import (
    DASHBOARD,
    ERRORS,
    REQUESTS,
    charts,
    error_groups,
    make_call,
    make_failure,
    page_of,
    text_of,
)
from usage.models import Outcome, Request
from usage.page_data.errors.call_faults import FAULTS, fault_of, fault_sentence, refused_parameter

pytestmark = pytest.mark.django_db
REFUSAL = {"error": {"message": "Unsupported value", "type": "invalid_request_error", "param": "temperature"}}
REFUSED: dict[str, Any] = {
    "outcome": "upstream_error",
    "status": 400,
    "error_code": "unsupported_value",
    "response_body": json.dumps(REFUSAL),
    "request_body": "{}",
}
WAYS = [
    ("client_cancelled", None, "", "The caller closed the connection"),
    ("interrupted", None, "", "The gateway stopped"),
    ("rejected", 429, "", "The gateway refused the call: a limit was reached."),
    ("rejected", 400, "model", "The gateway refused the caller's parameter model."),
    ("rejected", 503, "", "The gateway could not serve the call."),
    ("timeout", 504, "", "OpenAI did not answer in time."),
    ("timeout", 200, "", "OpenAI did not finish its answer in time."),
    ("unreachable", 502, "", "OpenAI could not be reached."),
    ("upstream_error", 400, "", "OpenAI refused the caller's request."),
    ("upstream_error", 400, "temperature", "OpenAI refused the caller's parameter temperature."),
    ("upstream_error", 401, "", "OpenAI refused the call's upstream key"),  # it may be one that the caller sent
    ("upstream_error", 429, "", "OpenAI's rate limit or quota of the call's upstream key"),
    ("upstream_error", 500, "", "OpenAI failed while it answered the call."),
    ("upstream_error", 200, "", "OpenAI failed while it answered the call."),
]


def badges(page: str) -> set[tuple[str, str]]:
    """Returns the colour and the text of each badge on a page that has a colour."""
    found = re.findall(r'<span class="cp-badge (\w+)"[^>]*>([^<]*)<', page)
    return {(kind, text) for kind, text in found if kind != "plain"}


@pytest.mark.parametrize(
    ("columns", "badge"),
    [
        (REFUSED, ("caller", "400 Caller")),
        ({"outcome": "upstream_error", "status": 500}, ("openai", "500 OpenAI")),
        ({"outcome": "upstream_error", "status": 429}, ("account", "429 Account limit")),
        ({"outcome": "rejected", "status": 503}, ("gateway", "503 Gateway")),
        ({"outcome": "client_cancelled", "status": None}, ("caller", "\N{EN DASH} Caller")),
    ],
    ids=str,
)
def test_lists_and_pages_agree(admin: Client, columns: dict[str, Any], badge: tuple[str, str]) -> None:
    request_id = make_failure(**columns)

    for address in (REQUESTS, page_of(request_id), DASHBOARD):
        assert badges(admin.get(address).content.decode()) == {badge}, address
    fault = badge[0]
    assert badges(admin.get(ERRORS).content.decode()) == {(fault, FAULTS[fault])}


def test_a_success_is_nobodys_fault(admin: Client) -> None:
    request_id = make_call()

    for address in (REQUESTS, page_of(request_id)):
        assert badges(admin.get(address).content.decode()) == {("success", "200 success")}
    assert fault_of(Request.objects.get()) == fault_sentence(Request.objects.get()) == ""


def test_a_list_says_how_a_call_without_a_code_ended(admin: Client) -> None:
    make_failure(outcome="interrupted", status=None, error_code="", error_message="")

    page = admin.get(REQUESTS).content.decode()
    assert "\N{EN DASH} Gateway" in text_of(page)
    assert '<p class="cp-reason" dir="auto"><b>Interrupted</b>' in page


def test_a_page_names_the_refused_parameter_to_those_who_may_see_bodies(admin: Client) -> None:
    address = page_of(make_failure(**REFUSED))
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_request"))

    assert "OpenAI refused the caller's parameter temperature." in unescape(admin.get(address).content.decode())
    assert "OpenAI refused the caller's request." in unescape(browser_of(viewer).get(address).content.decode())


def test_a_connection_that_was_lost_is_not_called_unreachable(admin: Client) -> None:
    columns = {"outcome": "unreachable", "error_code": "upstream_disconnected"}
    for number, of_answer in enumerate([{"status": 502}, {"status": 200, "stream": True}], start=1):
        page = admin.get(page_of(make_failure(**columns, **of_answer))).content.decode()

        assert '<span class="cp-badge plain">connection lost</span>' in page
        assert "The connection to OpenAI was lost before the answer was complete." in text_of(page)
        assert "could not be reached" not in text_of(page)
        [group] = error_groups(admin)
        assert (group.calls, group.outcome_label) == (number, "connection lost")


@pytest.mark.parametrize(("outcome", "status", "parameter", "words"), WAYS)
def test_words(outcome: str, status: int | None, parameter: str, words: str) -> None:
    call = Request(outcome=outcome, status=status)

    assert fault_sentence(call, parameter).startswith(words)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("upstream_error", 400, "refused by OpenAI"),
        ("upstream_error", 401, "refused by OpenAI"),
        ("upstream_error", 429, "limited by OpenAI"),
        ("upstream_error", 500, "OpenAI failed"),
        ("rejected", 400, "refused by the gateway"),
        ("timeout", 504, "timeout"),
    ],
)
def test_an_outcome_agrees_with_the_fault(admin: Client, outcome: str, status: int, words: str) -> None:
    request_id = make_failure(outcome=outcome, status=status)

    assert f'<span class="cp-badge plain">{words}</span>' in admin.get(page_of(request_id)).content.decode()
    [group] = error_groups(admin)
    assert group.outcome_label == words


def test_where_outcomes_are_counted_no_fault_is_named(admin: Client) -> None:
    make_failure(outcome="upstream_error", status=400)
    dashboard = admin.get(DASHBOARD).content.decode()

    assert [line["name"] for line in charts(dashboard)["calls"]] == ["Answered with an error"]
    assert "upstream error" not in dashboard.lower()
    assert '<option value="upstream_error">answered with an error</option>' in admin.get(REQUESTS).content.decode()


def test_every_outcome_has_words() -> None:
    assert {Outcome(outcome) for outcome, *_ in WAYS} | {Outcome.SUCCESS} == set(Outcome)


@pytest.mark.parametrize(
    "body",
    ["", "no JSON", "[]", "null", '{"error": "text"}', '{"error": {"param": null}}', '{"error": {"param": 7}}',
     '{"error": {"param": "words of a prompt"}}', '{"error": {"param": "' + "x" * 101 + '"}}'],
)  # fmt: skip
def test_an_odd_answer_names_no_parameter(body: str) -> None:
    make_failure(**{**REFUSED, "response_body": body})

    assert refused_parameter(Request.objects.get(), reads_body=True) == ""
