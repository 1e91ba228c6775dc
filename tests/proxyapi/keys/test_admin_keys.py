"""The keys' pages in the admin: a key is shown once, everything else about it always, its own account never.

Over 300 lines, since all pages of a key share a server, a signed-in person and the search for the secret.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatproxy.page_protection.response_headers import CONTENT_SECURITY_POLICY
from proxyapi import sealing
from proxyapi.models import AccessKey
from tests.support.ledger import ledgers
from tests.support.ledger.pages import text_of
from tests.support.servers.gateway import Gateway
from usage.journal_shipping.rows import write_rows
from usage.models import Hold

pytestmark = pytest.mark.django_db

LIST = "/admin/proxyapi/accesskey/"
ADD = f"{LIST}add/"
TEXT = re.compile(r"cp-[A-Za-z0-9_-]{43}")
FIELDS = {"name": "team a", "log_bodies": "inherit"}
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}\"'&"
PASSWORD = "a-password-for-tests"


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=None))
    return client


def page_of(key: AccessKey, action: str = "change") -> str:
    return f"{LIST}{key.pk}/{action}/"


def viewer_of_keys() -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_accesskey"))
    client = Client()
    client.force_login(user)
    return client


def fields_of(key: AccessKey, **changed: str) -> dict[str, str]:
    """The change form, as a browser sends it."""
    active = {"active": "on"} if key.active else {}
    lists = {name: "\n".join(getattr(key, name)) for name in ("tags", "allowed_models", "allowed_routes")}
    return {"owner": key.owner, "note": key.note, "log_bodies": key.log_bodies, **active, **lists, **changed}


def test_it_works(admin: Client) -> None:
    rules = {"allowed_models": "gpt-4o*\n\n o1 ,o3", "allowed_routes": "/openai*", "tags": "team a\nnight shift"}
    expiry = {"expires_at_0": "2031-01-01", "expires_at_1": "12:00"}
    limits = {"requests_per_minute": "60", "budget_month": "25.5", **expiry}
    answer = admin.post(ADD, {**FIELDS, **rules, **limits, "owner": "Ada", "upstream_key": "sk-of-its-own"})
    key = AccessKey.objects.get()
    (text,) = set(TEXT.findall(answer.content.decode()))

    assert answer.status_code == 200
    assert key.digest == sealing.digest(text)
    assert (key.name, key.owner, key.tags) == ("team a", "Ada", ["team a", "night shift"])
    assert (key.allowed_models, key.allowed_routes) == (["gpt-4o*", "o1", "o3"], ["/openai*"])
    assert (key.requests_per_minute, key.budget_month) == (60, Decimal("25.5"))
    assert key.tokens_per_minute is None
    assert key.expires_at == datetime(2031, 1, 1, 12, tzinfo=UTC)
    assert sealing.unseal(key.sealed_upstream_key) == "sk-of-its-own"


def test_the_key_is_shown_once(admin: Client) -> None:
    first = admin.post(ADD, FIELDS)
    text = TEXT.findall(first.content.decode())[0]
    key = AccessKey.objects.get()
    again = admin.post(ADD, FIELDS)  # the page loaded again
    pages = [again, *(admin.get(page) for page in (LIST, page_of(key), page_of(key, "rotate"), page_of(key, "revoke")))]

    assert "no-store" in first["Cache-Control"]
    assert "already exists" in again.content.decode()
    for page in pages:
        assert text not in page.content.decode()
        assert text[3:] not in page.content.decode()
    for page in pages[1:4]:
        assert f"{text[:7]}…{text[-4:]}" in page.content.decode()
    assert AccessKey.objects.count() == 1
    kept = [entry.change_message for entry in LogEntry.objects.all()]
    kept += [str(session.get_decoded()) for session in Session.objects.all()]
    assert not any(text in words for words in kept)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "Default"}, "&#x27;Default&#x27; is the name of a built-in key."),
        ({"allowed_routes": "openai\n/openai2"}, "as /openai or /v1/responses*; &#x27;openai&#x27; does not."),
        ({"requests_per_minute": "0"}, "greater than or equal to 1"),
        ({"budget_day": "-1"}, "greater than or equal to 0"),
        ({"budget_day": "much"}, "Enter a number."),
        ({"upstream_key": "two words"}, "printable ASCII characters"),
        ({"tags": "x" * 101}, "at most 100 characters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(admin: Client, fields: dict[str, str], words: str) -> None:
    answer = admin.post(ADD, {**FIELDS, **fields})

    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not AccessKey.objects.exists()
    assert not TEXT.search(answer.content.decode())


def test_an_upstream_key_can_be_set_and_taken_away_but_not_seen(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("team a")

    def change(**fields: str) -> str:
        assert admin.post(page_of(key), fields_of(key, **fields)).status_code == 302
        key.refresh_from_db()
        page = admin.get(page_of(key)).content.decode()
        assert "sk-of-its-own" not in page
        assert key.sealed_upstream_key == "" or key.sealed_upstream_key not in page
        return sealing.unseal(key.sealed_upstream_key) if key.sealed_upstream_key else ""

    assert change(upstream_key="sk-of-its-own-1") == "sk-of-its-own-1"
    assert change(note="something else") == "sk-of-its-own-1"
    assert change(upstream_key="sk-of-its-own-2") == "sk-of-its-own-2"
    assert change(forget_upstream_key="on") == ""
    both = admin.post(page_of(key), fields_of(key, upstream_key="sk-of-its-own-3", forget_upstream_key="on"))
    assert "Either a new upstream key, or none." in both.content.decode()
    logged = str([entry.change_message for entry in LogEntry.objects.all()])
    assert "sk-of-its-own" not in both.content.decode() + logged


def test_a_change_writes_what_was_changed_and_never_the_name(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("team a", owner="Ada")
    with CaptureQueriesContext(connection) as queries:
        admin.post(page_of(key), fields_of(key, name="team b", note="changed"))
    changed = AccessKey.objects.get()
    (update,) = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "proxyapi_accesskey"')]

    assert (changed.name, changed.owner, changed.note, changed.digest) == ("team a", "Ada", "changed", key.digest)
    assert changed.changed_at > key.changed_at
    assert re.findall(r'"(\w+)" =', update.partition("WHERE")[0]) == ["note", "changed_at"]


def test_rotating_shows_the_new_key_once(admin: Client) -> None:
    key, old = AccessKey.objects.issue("team a")
    assert "Keep the old key valid for" in admin.get(page_of(key, "rotate")).content.decode()
    answer = admin.post(page_of(key, "rotate"), {"grace": "3600"})
    (text,) = set(TEXT.findall(answer.content.decode()))
    key.refresh_from_db()

    assert text != old
    assert (key.digest, key.previous_digest) == (sealing.digest(text), sealing.digest(old))
    assert key.previous_valid_until is not None
    assert timedelta(minutes=59) < key.previous_valid_until - timezone.now() <= timedelta(hours=1)
    assert LogEntry.objects.get().change_message == "Rotated; grace for the old key: an hour."
    assert text not in admin.get(page_of(key)).content.decode()


@pytest.mark.parametrize("grace", ["", "1", "999999999", "abc"])
def test_a_grace_that_is_no_choice_rotates_nothing(admin: Client, grace: str) -> None:
    key, text = AccessKey.objects.issue("team a")
    answer = admin.post(page_of(key, "rotate"), {"grace": grace})

    assert not TEXT.search(answer.content.decode())
    assert AccessKey.objects.get().digest == sealing.digest(text)


def test_revoking_asks_first_and_is_for_ever(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("team a")
    assert "cannot be undone" in admin.get(page_of(key, "revoke")).content.decode()
    assert AccessKey.objects.get().state() == "active"
    assert admin.post(page_of(key, "revoke")).status_code == 302
    assert AccessKey.objects.get().state() == "revoked"
    assert LogEntry.objects.get().change_message == "Revoked."

    admin.post(page_of(key), fields_of(key, active="on"))
    rotated = admin.post(page_of(key, "rotate"), {"grace": "0"})
    page = admin.get(page_of(key)).content.decode()
    assert AccessKey.objects.get().state() == "revoked"
    assert "A revoked key cannot be rotated" in rotated.content.decode()
    assert page_of(key, "rotate") not in page
    assert page_of(key, "revoke") not in page


def test_nobody_deletes_a_key(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("team a")

    assert admin.get(page_of(key, "delete")).status_code == 403
    assert admin.post(page_of(key, "delete"), {"post": "yes"}).status_code == 403
    admin.post(LIST, {"action": "delete_selected", "_selected_action": key.pk, "post": "yes"})
    assert AccessKey.objects.count() == 1
    assert not Permission.objects.filter(codename="delete_accesskey").exists()


@pytest.mark.parametrize("action", ["change", "rotate", "revoke"])
def test_who_may_only_look_changes_nothing(action: str) -> None:
    key, text = AccessKey.objects.issue("team a")
    client = viewer_of_keys()

    assert client.get(LIST).status_code == 200
    assert client.post(page_of(key, action), fields_of(key, note="changed", grace="0")).status_code == 403
    kept = AccessKey.objects.get()
    assert (kept.note, kept.digest, kept.state()) == ("", sealing.digest(text), "active")


def test_a_stranger_is_sent_to_the_login() -> None:
    key, _ = AccessKey.objects.issue("team a")
    for page in (LIST, ADD, page_of(key), page_of(key, "rotate"), page_of(key, "revoke")):
        assert Client().get(page).status_code == 302


# The list


def test_the_list_says_how_keys_are_and_when_they_were_used(admin: Client) -> None:
    now = timezone.now()
    names = ("lives", "is off", "expired", "revoked")
    keys = {name: AccessKey.objects.issue(name)[0] for name in names}
    AccessKey.objects.filter(name="is off").update(active=False)
    AccessKey.objects.filter(name="expired").update(expires_at=now - timedelta(seconds=1))
    keys["revoked"].revoke()
    write_rows([ledgers.call(key_name="lives"), ledgers.call(ledgers.NOON + timedelta(days=1), key_name="lives")])
    page = admin.get(LIST)

    assert [key.state() for key in page.context["cl"].result_list] == ["expired", "off", "active", "revoked"]
    assert f'<time datetime="{ledgers.NOON + timedelta(days=1):%Y-%m-%d}"' in page.content.decode()
    for state, name in {"active": "lives", "off": "is off", "expired": "expired", "revoked": "revoked"}.items():
        found = admin.get(LIST, {"state": state}).context["cl"].result_list
        assert [key.name for key in found] == [name]


def test_the_list_says_what_is_spent_and_what_failed(admin: Client) -> None:
    now = timezone.now()
    AccessKey.objects.issue("a rich one", budget_day=Decimal(10), budget_month=Decimal("0.5"), budget_total=Decimal(0))
    AccessKey.objects.issue("b free one")
    for days, cost, outcome in ((0, "1", "success"), (6, "2", "timeout"), (7, "4", "success"), (400, "8", "success")):
        write_rows([ledgers.call(now - timedelta(days=days), key_name="a rich one", cost=cost, outcome=outcome)])
    page = text_of(unescape(admin.get(LIST).content.decode())).replace("\u202f", " ")

    assert "$1.00 of $10.00 today 10 %" in page
    assert re.search(r"\$\d.00 of \$0.50 this month full, \d+00 %", page)
    assert "$15.00 of $0.00 total full, 100 %" in page
    assert "2 calls 50 % failed today" in page
    assert "$0.00 this month no calls never" in page


def test_what_calls_in_flight_hold_counts_as_spent(admin: Client) -> None:
    now = timezone.now()
    AccessKey.objects.issue("busy", budget_day=Decimal(10))
    Hold.objects.create(request_id=uuid.uuid4(), key_name="busy", day=now.date(), dollars=Decimal("9.5"))
    page = admin.get(LIST).content.decode()

    assert "$9.50</b> of $10.00 today" in page
    assert 'class="nearly"' in page
    assert '<rect width="95.00"' in page


def test_who_may_not_view_requests_sees_no_sums_of_keys() -> None:
    AccessKey.objects.issue("team a", budget_day=Decimal(10))
    write_rows([ledgers.call(timezone.now(), key_name="team a")])
    page = viewer_of_keys().get(LIST)

    assert page.status_code == 200
    assert "of $10.00" not in page.content.decode()
    assert "1 call" not in page.content.decode()


def test_the_list_costs_as_many_queries_for_50_keys_as_for_one(admin: Client) -> None:
    counts = []
    for more in (1, 49):
        for number in range(more):
            AccessKey.objects.issue(f"{more}-{number}")
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(LIST).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 9


# Hostile text, and what a page may run


def test_hostile_text_is_shown_as_text(admin: Client) -> None:
    key, _ = AccessKey.objects.issue(HOSTILE, owner=HOSTILE, note=HOSTILE, tags=[HOSTILE], allowed_models=[HOSTILE])
    shown = admin.post(page_of(key, "rotate"), {"grace": "0"})
    pages = [shown, *(admin.get(page) for page in (LIST, page_of(key), page_of(key, "rotate"), page_of(key, "revoke")))]

    for page in pages:
        assert "<script>alert(1)" not in page.content.decode()


def test_no_page_has_a_script_inside_and_each_has_the_policy(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("team a")
    pages = [admin.get(page) for page in (LIST, ADD, page_of(key), page_of(key, "rotate"), page_of(key, "revoke"))]
    pages += [admin.post(page_of(key, "rotate"), {"grace": "0"}), admin.post(ADD, {**FIELDS, "name": "team b"})]

    for page in pages:
        text = page.content.decode()
        assert page.status_code == 200
        assert [script for script in re.findall(r"<script[^>]*>", text) if "src=" not in script] == []
        assert re.findall(r"\son(?:click|load|change|submit|error)=", text) == []
        assert page["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


# Over the socket


def log_in(gateway: Gateway) -> Callable[[str, dict[str, str]], str]:
    """Posts a form of the admin, as a browser with a session does."""
    http = gateway.http

    def post(path: str, fields: dict[str, str]) -> str:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', http.get(path).raise_for_status().text)
        assert token is not None
        form = {**fields, "csrfmiddlewaretoken": token[1]}
        while (answer := http.post(path, data=form, follow_redirects=True)).status_code == 503:
            pass  # on a busy machine a page may take longer than it may wait; then it has changed nothing
        return answer.raise_for_status().text

    post("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD})
    return post


def test_a_key_of_the_admin_works_and_a_revoked_one_does_not(start_gateway: Any, gateway_database: str) -> None:
    gateway = start_gateway()
    changed = gateway.manage("shell", "-c", CHANGE_PASSWORD)
    assert changed.returncode == 0, changed.stderr
    post = log_in(gateway)
    text = TEXT.findall(post(ADD, {**FIELDS, "name": "of the admin"}))[0]
    gateway.wait_until_known(text)
    key_id = re.search(rf"{LIST}(\d+)/change/", gateway.http.get(f"{LIST}?q=of+the+admin").text)
    assert key_id is not None
    post(f"{LIST}{key_id[1]}/revoke/", {})
    gateway.wait_until_known(text, known=False)
    assert text not in gateway.log


CHANGE_PASSWORD = f"""
from django.contrib.auth.models import User
user = User.objects.get(username="admin")
user.set_password({PASSWORD!r})
user.save()
"""
