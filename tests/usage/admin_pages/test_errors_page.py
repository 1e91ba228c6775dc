"""The errors page shows how often each kind occurred, since when, where and by whose fault, and links to its calls."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import (
    ERRORS,
    error_groups,
    make_call,
    make_failure,
    make_upstream_failure,
    pieces_of,
    text_of,
)
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import Outcome, Request
from usage.page_data.errors.call_faults import FAULTS, fault_of
from usage.page_data.errors.error_groups import read_groups
from usage.page_data.errors.error_marks import ErrorKind
from usage.sums.ranges import TimeRange

pytestmark = pytest.mark.django_db
FAILED_OUTCOMES = [outcome.value for outcome in Outcome if outcome != Outcome.SUCCESS]


def test_it_works(admin: Client) -> None:
    first = make_failure(50, key_name="red")
    make_failure(30, key_name="blue")
    last = make_failure(10, key_name="red", error_message="The newest words.")
    make_call()
    [group] = error_groups(admin)

    assert group.kind == ErrorKind("timeout", "upstream_timeout", "")
    assert (group.calls, group.counts) == (3, {"key": 2, "model": 1, "route": 1, "status": 1})
    assert group.parts["key"] == [("red", 2), ("blue", 1)]
    assert [group.parts[name] for name in ("model", "route", "status")] == [
        [("gpt-4o-mini", 3)], [("/openai", 3)], [("504", 3)],
    ]  # fmt: skip
    stored = {str(call.pk): call.started_at for call in Request.objects.all()}
    assert (group.first_at, group.last_at) == (stored[first], stored[last])
    assert sum(group.trend) == 3
    assert str(group.sample_id) == last
    seen = text_of(admin.get(ERRORS).content.decode())
    for words in ("3 calls", "upstream_timeout", "timeout", "OpenAI", "/openai", "red 2", "The newest words."):
        assert words in seen


def test_first_seen_is_of_all_time(admin: Client) -> None:
    first = datetime.now(UTC) - timedelta(days=400)
    make_failure(started_at=first, key_name="gone")
    make_failure(started_at=first - timedelta(days=1), error_code="another")
    make_failure()
    [group] = error_groups(admin, range="hour")

    assert group.first_at == first
    assert (group.calls, group.parts["key"]) == (1, [("default", 1)])
    assert f"{first:%Y-%m-%d %H:%M}" in text_of(admin.get(ERRORS, {"range": "hour"}).content.decode())


RATE = "Rate limit reached for gpt-4o-mini in organization org-{} on {} per min: Limit {}, Used {}. Try in 1.5s."


@pytest.mark.parametrize("columns", [{"outcome": "unreachable"}, {"error_code": "other"}], ids=str)
def test_what_differs_is_a_group_of_its_own(admin: Client, columns: dict[str, Any]) -> None:
    make_failure()
    make_failure()
    make_failure(**columns)

    assert [group.calls for group in error_groups(admin)] == [2, 1]


@pytest.mark.parametrize(
    "columns",
    [{"status": 408}, {"request_model": "o3", "response_model": "o3"}, {"route": "/openai2"}, {"key_name": "blue"}],
    ids=str,
)
def test_one_error_of_several_statuses_models_routes_and_keys_is_one(admin: Client, columns: dict[str, Any]) -> None:
    make_failure()
    make_failure()
    make_failure(**columns)
    [group] = error_groups(admin)

    assert group.calls == 3
    assert max(group.counts.values()) == 2


def test_messages_that_differ_in_numbers_ids_and_models_are_one_group(admin: Client) -> None:
    for number, unit in ((1, "tokens"), (22, "tokens"), (333, "requests")):
        message = RATE.format(f"abcDEF{number}", unit, 1000 * number, number)
        make_upstream_failure(message=message, status=429, error_code="rate_limit_exceeded")
    make_upstream_failure(message=RATE.replace("gpt-4o-mini", "o-pro").format("x" * 9, "tokens", 1, 2), status=429,
                     error_code="rate_limit_exceeded", request_model="o-pro")  # fmt: skip

    assert [(group.kind.error_code, group.calls) for group in error_groups(admin)] == [
        ("rate_limit_exceeded", 3), ("rate_limit_exceeded", 1),
    ]  # fmt: skip
    page = text_of(admin.get(ERRORS).content.decode())
    common = "Rate limit reached for # in organization # on tokens per min: Limit #, Used #. Try in #."
    assert page.count(f"What the messages have in common: {common}") == 1  # not of the group of one call


def test_a_group_shows_the_text_of_its_newest_call(admin: Client) -> None:
    words = "This key may not use the model gpt-4o. This key allows: gpt-4o-mini."
    make_failure(outcome="rejected", status=403, error_code="model_not_allowed", error_message=words)
    page = admin.get(ERRORS).content.decode()

    assert f'<span class="cp-pattern" dir="auto">{words}</span>' in page
    assert "#." not in text_of(page)


def test_only_who_may_see_bodies_sees_messages(admin: Client) -> None:
    make_upstream_failure(message="the secret plan")
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_request"))
    client = Client()
    client.force_login(viewer)

    assert "the secret plan" in admin.get(ERRORS).content.decode()
    assert "the secret plan" not in client.get(ERRORS).content.decode()
    for kind in ("csv", "json"):
        export = f"/admin/usage/errors/export.{kind}"
        assert b"the secret plan" in b"".join(pieces_of(admin.get(export)))
        assert b"the secret plan" not in b"".join(pieces_of(client.get(export)))


def test_from_a_group_to_its_calls_and_no_others(admin: Client) -> None:
    wanted = [make_failure(2), make_failure(1)]
    for columns in ({"error_code": "another"}, {"error_code": ""}, {"outcome": "interrupted"}):
        make_failure(**columns)
    for message in ("Bad 1", "Bad 2", "Worse", ""):
        make_upstream_failure(message=message)
    write_rows([call(datetime.now(UTC), outcome="client_cancelled", status=None)])
    answer = admin.get(ERRORS, {"range": "day"})
    found = {}
    for group, query, parts in answer.context["groups"]:
        calls = admin.get(f"/admin/usage/request/?{query}").context["calls"]
        assert len(calls) == group.calls
        found[group.kind] = [str(call.pk) for call in calls]
        for _, _, first in parts:
            for _, number, part_query in first:
                assert len(admin.get(f"/admin/usage/request/?{part_query}").context["calls"]) == number

    assert len(found) == 8
    assert found[ErrorKind("timeout", "upstream_timeout", "")] == wanted[::-1]


@pytest.mark.parametrize(
    ("outcome", "status", "fault"),
    [
        ("client_cancelled", None, "caller"),
        ("rejected", 400, "caller"),
        ("rejected", 429, "caller"),
        ("rejected", 503, "gateway"),
        ("interrupted", None, "gateway"),
        ("timeout", 504, "openai"),
        ("unreachable", 502, "openai"),
        ("upstream_error", 200, "openai"),
        ("upstream_error", 400, "caller"),
        ("upstream_error", 401, "gateway"),
        ("upstream_error", 403, "gateway"),
        ("upstream_error", 404, "caller"),
        ("upstream_error", 408, "openai"),
        ("upstream_error", 429, "account"),
        ("upstream_error", 500, "openai"),
    ],
)
def test_whose_fault_it_is(admin: Client, outcome: str, status: int | None, fault: str) -> None:
    make_failure(outcome=outcome, status=status)
    [group] = error_groups(admin)

    assert group.fault == fault_of(Request.objects.get()) == fault
    assert [name for name in FAULTS if error_groups(admin, fault=name)] == [fault]


def test_an_error_is_the_fault_of_most_of_its_calls(admin: Client) -> None:
    for status in (400, 400, 500):
        make_failure(outcome="upstream_error", status=status, error_message="")

    assert [group.calls for group in error_groups(admin, fault="caller")] == [3]
    assert error_groups(admin, fault="openai") == []


@pytest.mark.parametrize("outcome", FAILED_OUTCOMES)
def test_only_of_a_caller_who_left_it_says_so(admin: Client, outcome: str) -> None:
    make_failure(outcome=outcome, status=None)
    said = text_of(admin.get(ERRORS).content.decode())

    assert re.search(r"Statuses 1 (none[\w: ]*?) 1 ", said)[1] == (  # type: ignore[index]  # None fails as well
        "none: the caller had left" if outcome == "client_cancelled" else "none"
    )


def test_only_the_errors_of_the_time_count(admin: Client) -> None:
    make_failure(0)
    make_failure(60 * 24 * 3)
    make_failure(60 * 24 * 20)

    assert [error_groups(admin, range=name)[0].calls for name in ("hour", "day", "week", "month")] == [1, 1, 2, 3]
    assert error_groups(admin, **{"from": "2026-01-01T00:00", "to": "2026-01-02T00:00"}) == []


def test_a_failure_that_turned_out_well_is_gone(admin: Client) -> None:
    row = call(datetime.now(UTC))
    write_rows([interrupted(row)])
    assert [group.kind.error_code for group in error_groups(admin)] == ["interrupted"]
    write_rows([row])

    assert error_groups(admin) == []


def test_the_trend_shows_when(admin: Client) -> None:
    for hours in (1, 1, 20):
        make_failure(60 * hours)
    [group] = error_groups(admin, range="day")

    busy = [number for number, count in enumerate(group.trend) if count]
    assert [group.trend[number] for number in busy] == [1, 2]
    assert busy[0] <= 5
    assert busy[1] >= 21
    assert group.trend_path.endswith("20v-20.0h3v20.0z")
    assert group.trend_path.count("M") == 2


@pytest.mark.parametrize("hour", [0, 1, 12, 23])
def test_the_trend_shows_when_at_every_hour_of_the_day(hour: int) -> None:
    now = datetime(2026, 11, 2, hour, 5, tzinfo=UTC)
    for hours in (1, 1, 20):
        make_failure(started_at=now - timedelta(hours=hours))
    [group] = read_groups(TimeRange("day", now - timedelta(days=1), now))

    assert [count for count in group.trend if count] == [1, 2]


# Cost


def test_as_many_queries_for_many_groups_as_for_one(admin: Client) -> None:
    counts = []
    for more in (1, 120):
        now = datetime.now(UTC) - timedelta(minutes=1)
        rows = [
            call(now, request_id=call_id(now), outcome="timeout", status=504, error_code=f"code-{more}-{number}")
            for number in range(more)
        ]
        write_rows(rows)
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(ERRORS).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 6
    assert "with the most calls" in admin.get(ERRORS).content.decode()


def test_the_kind_that_has_occurred_last_can_come_first(admin: Client) -> None:
    make_failure(1, error_code="rare")
    for minutes in (20, 30):
        make_failure(minutes, error_code="often")

    assert [group.kind.error_code for group in error_groups(admin)] == ["often", "rare"]
    assert [group.kind.error_code for group in error_groups(admin, order="newest")] == ["rare", "often"]
    page = admin.get(ERRORS, {"order": "newest"}).content.decode()
    [address] = re.findall(r'href="([^"]*export\.json[^"]*)"', page)
    rows = json.loads(b"".join(pieces_of(admin.get(unescape(address)))))
    assert [row["error_code"] for row in rows] == ["rare", "often"]
