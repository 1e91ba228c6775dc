"""The errors page shows how often each kind occurred, since when and with which keys, keeps marks, links to calls."""

from __future__ import annotations

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
from tests.support.ledger.pages import ERRORS, HOSTILE, make_call, make_failure, text_of
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import KnownError, Request
from usage.page_data.error_groups import ErrorGroup, ErrorKind, read_groups
from usage.sums.ranges import TimeRange

pytestmark = pytest.mark.django_db
MARK = "/admin/usage/errors/mark/"
KIND = {"kind": '["timeout", 504, "upstream_timeout", "gpt-4o-mini", "/openai"]'}


def groups(admin: Client, **query: str) -> list[ErrorGroup]:
    answer = admin.get(ERRORS, query)
    assert answer.status_code == 200
    return [group for group, _ in answer.context["groups"]]


def test_it_works(admin: Client) -> None:
    first = make_failure(50, key_name="red")
    make_failure(30, key_name="blue")
    last = make_failure(10, key_name="red", error_message="The newest words.")
    make_call()
    [group] = groups(admin)

    assert group.kind == ErrorKind("timeout", 504, "upstream_timeout", "gpt-4o-mini", "/openai")
    assert (group.calls, group.key_count, group.keys) == (3, 2, ["red", "blue"])
    stored = {str(call.pk): call.started_at for call in Request.objects.all()}
    assert (group.first_at, group.last_at) == (stored[first], stored[last])
    assert sum(group.trend) == 3
    assert str(group.sample_id) == last
    seen = text_of(admin.get(ERRORS).content.decode())
    for words in ("3 calls", "upstream_timeout", "504 timeout", "/openai", "red, blue", "The newest words."):
        assert words in seen


def test_first_seen_is_of_all_time(admin: Client) -> None:
    first = datetime.now(UTC) - timedelta(days=400)
    make_failure(started_at=first, key_name="gone")
    make_failure(started_at=first - timedelta(days=1), error_code="another")
    make_failure()
    [group] = groups(admin, range="hour")

    assert group.first_at == first
    assert (group.calls, group.keys) == (1, ["default"])
    assert f"{first:%b} {first.day}, {first.year}" in text_of(admin.get(ERRORS, {"range": "hour"}).content.decode())


@pytest.mark.parametrize(
    "columns",
    [
        {"outcome": "unreachable"},
        {"status": 408},
        {"error_code": "other"},
        {"request_model": "o3"},
        {"route": "/openai2"},
    ],
    ids=str,
)
def test_what_differs_is_a_group_of_its_own(admin: Client, columns: dict[str, Any]) -> None:
    make_failure()
    make_failure()
    make_failure(**columns)

    assert [group.calls for group in groups(admin)] == [2, 1]


def test_from_a_group_to_its_calls_and_no_others(admin: Client) -> None:
    wanted = [make_failure(2), make_failure(1)]
    for columns in ({"status": 408}, {"error_code": ""}, {"request_model": ""}, {"route": "/openai2"}):
        make_failure(**columns)
    write_rows([call(datetime.now(UTC), outcome="client_cancelled", status=None)])
    answer = admin.get(ERRORS, {"range": "day"})
    found = {}
    for group, query in answer.context["groups"]:
        calls = admin.get(f"/admin/usage/request/?{query}").context["calls"]
        assert len(calls) == group.calls
        found[group.kind] = [str(call.pk) for call in calls]

    assert len(found) == 6
    assert found[ErrorKind("timeout", 504, "upstream_timeout", "gpt-4o-mini", "/openai")] == wanted[::-1]


def test_only_the_errors_of_the_time_count(admin: Client) -> None:
    make_failure(0)
    make_failure(60 * 24 * 3)
    make_failure(60 * 24 * 20)

    assert [groups(admin, range=name)[0].calls for name in ("hour", "day", "week", "month")] == [1, 1, 2, 3]
    assert groups(admin, **{"from": "2026-01-01T00:00", "to": "2026-01-02T00:00"}) == []


def test_a_failure_that_turned_out_well_is_gone(admin: Client) -> None:
    row = call(datetime.now(UTC))
    write_rows([interrupted(row)])
    assert [group.kind.error_code for group in groups(admin)] == ["interrupted"]
    write_rows([row])

    assert groups(admin) == []


def test_the_trend_shows_when(admin: Client) -> None:
    for hours in (1, 1, 20):
        make_failure(60 * hours)
    [group] = groups(admin, range="day")

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


# Known


def test_an_error_is_marked_as_known_and_forgotten_again(admin: Client) -> None:
    make_failure()
    make_failure(error_code="new")
    answer = admin.post(MARK, {**KIND, "note": f"Slow days. {HOSTILE}", "query": "range=day&state=all"})

    assert answer.status_code == 302
    assert answer["Location"] == f"{ERRORS}?range=day&state=all"
    known = KnownError.objects.get()
    assert (known.note, known.marked_by) == (f"Slow days. {HOSTILE}", "root")
    assert [group.kind.error_code for group in groups(admin, state="known")] == ["upstream_timeout"]
    assert [group.kind.error_code for group in groups(admin, state="new")] == ["new"]
    page = admin.get(ERRORS).content.decode()
    assert "Slow days." in page
    assert "<script>alert(1)" not in page
    admin.post(MARK, {**KIND, "note": "Better now."})
    assert KnownError.objects.get().note == "Better now."
    admin.post(MARK, {**KIND, "do": "forget"})
    assert not KnownError.objects.exists()


def test_the_pages_own_form_marks_its_group(admin: Client) -> None:
    make_failure(request_model="", error_code="", key_name="k")
    page = admin.get(ERRORS).content.decode()
    [form] = re.findall(r'<form class="cp-mark".*?</form>', page, flags=re.S)
    fields = {name: unescape(value) for name, value in re.findall(r'<input[^>]*name="(\w+)" value="([^"]*)"', form)}
    admin.post(MARK, {**fields, "note": "seen"})

    assert [group.known.note for group in groups(admin) if group.known] == ["seen"]


@pytest.mark.parametrize(
    "kind",
    ["", "{", "[]", '["timeout", "504", "", "", ""]', '["timeout", 99999, "", "", ""]', '["x", 504, "", "", ""]',
     "[" * 10**5, '["timeout", 504, "a", "b", "c", "d"]', '["timeout", true, "", "", ""]'],
)  # fmt: skip
def test_what_is_no_kind_of_error_is_not_marked(admin: Client, kind: str) -> None:
    assert admin.post(MARK, {"kind": kind}).status_code == 302

    assert not KnownError.objects.exists()


def test_only_who_may_marks(admin: Client) -> None:
    make_failure()
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_request"))
    client = Client()
    client.force_login(viewer)
    client.post(MARK, KIND)

    assert "upstream_timeout" in client.get(ERRORS).content.decode()
    assert "Mark as known" not in client.get(ERRORS).content.decode()
    assert not KnownError.objects.exists()
    assert admin.get(MARK).status_code == 405


def test_the_way_back_stays_here(admin: Client) -> None:
    answer = admin.post(MARK, {**KIND, "query": "//evil.example/\r\nx: y"})

    assert answer["Location"].startswith(f"{ERRORS}?")
    assert "\n" not in answer["Location"]


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
