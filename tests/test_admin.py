"""The ledger in the admin: found by any of its ids, filtered, never changed, hostile text shown as text."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import ledgers
from usage.models import Outcome, Request
from usage.rows import write_rows

pytestmark = pytest.mark.django_db

LIST = "/admin/usage/request/"
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}\"'&"


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=None))
    return client


def make_call(**columns: Any) -> Request:
    return Request.objects.create(
        **{
            "request_id": uuid.uuid4(),
            "key_name": "default",
            "method": "POST",
            "route": "/openai",
            "request_model": "gpt-4o-mini",
            "response_model": "gpt-4o-mini-2024-07-18",
            "status": 200,
            "outcome": Outcome.SUCCESS,
            "started_at": datetime.now(UTC),
            "duration_ms": 1234.5,
            **columns,
        }
    )


def page_of(call: Request) -> str:
    return reverse("admin:usage_request_change", args=[call.pk])


def shown(admin: Client, **query: str) -> set[str]:
    """The ids of the calls in the list."""
    answer = admin.get(LIST, query)
    assert answer.status_code == 200
    return {str(call.pk) for call in answer.context["cl"].result_list}


def test_it_works(admin: Client) -> None:
    call = make_call(error_code="the_code")
    answer = admin.get(LIST)

    assert answer.status_code == 200
    text = answer.content.decode()
    assert page_of(call) in text
    for value in ("default", "/openai", "gpt-4o-mini-2024-07-18", "1,234", "the_code"):
        assert value in text


def test_one_call_shows_all_of_it(admin: Client) -> None:
    columns = {"response_id": "resp_77", "upstream_request_id": "req_88", "incoming_request_id": "mine-99"}
    call = make_call(**columns, usage={"prompt_tokens": 4711}, input_tokens=4711, error_message="It broke.")
    text = admin.get(page_of(call)).content.decode()

    for value in (str(call.pk), *columns.values(), "4711", "It broke."):
        assert value in text


@pytest.mark.parametrize("column", ["request_id", "incoming_request_id", "upstream_request_id", "response_id"])
def test_a_call_is_found_by_each_of_its_ids(admin: Client, column: str) -> None:
    names = ("incoming_request_id", "upstream_request_id", "response_id")
    calls = [make_call(**{name: f"{name}-{number}" for name in names}) for number in range(3)]

    assert shown(admin, q=str(getattr(calls[1], column))) == {str(calls[1].pk)}


def test_a_call_is_found_by_a_part_of_its_model_or_error(admin: Client) -> None:
    call = make_call(response_model="gpt-5-pro", error_message="Rate limit reached for gpt-5 in organization")
    make_call()

    assert shown(admin, q="5-pro") == shown(admin, q="limit reached") == {str(call.pk)}


@pytest.mark.parametrize(
    "query", ["nothing-like-it", "'; DROP TABLE usage_request; --", HOSTILE, "%", "\\", "x" * 5000]
)
def test_a_search_for_nothing_finds_nothing(admin: Client, query: str) -> None:
    make_call()

    assert shown(admin, q=query) == set()


@pytest.mark.parametrize(
    ("column", "value", "query"),
    [
        ("outcome", Outcome.TIMEOUT, {"outcome__exact": "timeout"}),
        ("stream", True, {"stream__exact": "1"}),
        ("key_name", "another", {"key_name": "another"}),
        ("status", 504, {"status": "504"}),
    ],
)
def test_the_list_is_filtered(admin: Client, column: str, value: Any, query: dict[str, str]) -> None:
    call = make_call(**{column: value})
    make_call()

    assert shown(admin, **query) == {str(call.pk)}


@pytest.mark.parametrize(
    ("column", "value", "query"),
    [
        ("route", "/openai2", {"route": "/openai2"}),
        ("key_name", "another", {"key": "another"}),
        ("response_model", "gpt-5-pro", {"model": "gpt-5-pro"}),
    ],
)
def test_the_filters_offer_what_the_sums_know(admin: Client, column: str, value: str, query: dict[str, str]) -> None:
    wanted = {**ledgers.call(), column: value}
    write_rows([wanted, ledgers.call()])

    assert shown(admin, **query) == {wanted["request_id"]}
    assert value in admin.get(LIST).content.decode()


def test_the_list_is_filtered_by_time(admin: Client) -> None:
    make_call(started_at=datetime.now(UTC) - timedelta(days=9))
    call = make_call()
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    assert shown(admin, started_at__gte=since) == {str(call.pk)}


def test_the_newest_call_is_the_first(admin: Client) -> None:
    now = datetime.now(UTC)
    calls = [make_call(started_at=now - timedelta(minutes=minutes)) for minutes in (5, 1, 9)]
    listed = [call.pk for call in admin.get(LIST).context["cl"].result_list]

    assert listed == [calls[1].pk, calls[0].pk, calls[2].pk]


# Read only


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["add/", "{id}/delete/"])
def test_no_call_is_added_or_deleted(admin: Client, method: str, page: str) -> None:
    call = make_call()
    answer = getattr(admin, method)(LIST + page.format(id=call.pk), {"post": "yes", "key_name": "forged"})

    assert answer.status_code == 403
    assert list(Request.objects.values_list("pk", "key_name")) == [(call.pk, "default")]


def test_no_call_is_changed(admin: Client) -> None:
    call = make_call()
    answer = admin.post(page_of(call), {"key_name": "forged", "status": "500"})

    assert answer.status_code == 403
    call.refresh_from_db()
    assert (call.key_name, call.status) == ("default", 200)


def test_no_call_is_deleted_by_the_lists_action(admin: Client) -> None:
    call = make_call()
    admin.post(LIST, {"action": "delete_selected", "_selected_action": [str(call.pk)], "post": "yes"})

    assert Request.objects.count() == 1


def test_the_pages_have_no_form_that_changes(admin: Client) -> None:
    text = admin.get(page_of(make_call())).content.decode()

    assert 'name="_save"' not in text
    assert 'name="key_name"' not in text


@pytest.mark.parametrize("staff", [False, True], ids=["no-account", "staff-without-permission"])
def test_nobody_else_sees_calls(staff: bool) -> None:
    call = make_call()
    client = Client()
    if staff:
        client.force_login(User.objects.create_user("staff", is_staff=True))
    for page in (LIST, page_of(call)):
        assert client.get(page).status_code == (403 if staff else 302)


# Hostile text


def test_hostile_text_is_shown_as_text(admin: Client) -> None:
    columns = ("key_name", "route", "request_model", "response_model", "error_code", "error_type", "error_message",
               "user_agent", "incoming_request_id", "upstream_request_id", "response_id", "service_tier")  # fmt: skip
    call = make_call(**dict.fromkeys(columns, HOSTILE[:40]), usage={HOSTILE: HOSTILE}, tags=[HOSTILE])

    for page in (LIST, page_of(call), f"{LIST}?q={HOSTILE}"):
        text = admin.get(page).content.decode()
        assert "<script>alert(1)" not in text
        assert "&lt;script&gt;alert(1)" in text


# Cost


def test_the_list_costs_as_many_queries_for_50_calls_as_for_one(admin: Client) -> None:
    counts = []
    for more in (1, 49):
        Request.objects.bulk_create(
            [
                Request(
                    request_id=uuid.uuid4(), key_name="k", method="POST", route="/openai", outcome=Outcome.SUCCESS,
                    started_at=datetime.now(UTC), duration_ms=1,
                )
                for _ in range(more)
            ]
        )  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(LIST).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1]
    assert counts[1] <= 10
