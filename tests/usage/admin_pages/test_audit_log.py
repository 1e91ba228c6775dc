"""The audit log says who has changed what, with the values before and after, and who has looked at prompts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from proxyapi.models import AccessKey
from tests.support.alerts import GONE, make_alert, make_channel
from tests.support.callers.roles import EVERYBODY, browser_of, have_groups, person
from tests.support.ledger.pages import make_failure, pieces_of
from usage.models import ModelPrice

pytestmark = pytest.mark.django_db
KEYS, USERS, PRICES = "/admin/proxyapi/accesskey/", "/admin/auth/user/", "/admin/usage/modelprice/"
SEES_BODIES = ("analyst", "admin", "superuser")


def newest() -> str:
    return LogEntry.objects.latest("pk").get_change_message()


def test_a_change_is_told_with_the_values_before_and_after(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("a key", owner="Ada", budget_month=Decimal(10), allowed_models=["gpt-4o", "o3"])
    form = {
        "owner": "Bob", "budget_month": "20", "budget_day": "1.5", "allowed_models": "o3\no4-mini",
        "log_bodies": "none", "upstream_key": "sk-of-its-own-1", "active": "on",
    }  # fmt: skip
    assert admin.post(f"{KEYS}{key.pk}/change/", form).status_code == 302

    assert newest() == (
        "Changed owner from “Ada” to “Bob”; allowed models: added “o4-mini”, removed “gpt-4o”; store prompts and"
        " answers from “server default” to “none”; budget per day from nothing to 1.5; budget per month from 10.0000"
        " to 20; upstream key (not shown)."
    )
    assert newest() in admin.get("/admin/admin/logentry/").content.decode()


def test_a_new_row_is_told_with_its_values_and_a_deleted_one_too(admin: Client) -> None:
    moment = {"valid_from_0": "2026-01-31", "valid_from_1": "18:00:00"}
    admin.post(f"{PRICES}add/", {"model": "gpt-9", "input": "1.5", **moment})
    assert newest() == "Added with model “gpt-9”; valid from 2026-01-31 18:00 UTC; input 1.5."

    price = ModelPrice.objects.get()
    admin.post(f"{PRICES}{price.pk}/delete/", {"post": "yes"})
    assert newest().startswith("Deleted; it had model “gpt-9”; valid from 2026-01-31 18:00 UTC; input 1.5")


def test_roles_that_are_given_and_taken_are_told(admin: Client) -> None:
    have_groups()
    user = User.objects.create_user("ada", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    page = f"{USERS}{user.pk}/change/"
    form = {
        "username": "ada", "is_active": "on", "groups": [Group.objects.get(name="analyst").pk],
        "date_joined_0": f"{user.date_joined:%Y-%m-%d}", "date_joined_1": f"{user.date_joined:%H:%M:%S}",
    }  # fmt: skip
    assert admin.post(page, form).status_code == 302

    assert newest() == "Changed staff status from yes to no; groups: added “analyst”, removed “viewer”."
    password = "correct horse battery staple"
    admin.post(f"{USERS}{user.pk}/password/", {"password1": password, "password2": password, "usable_password": "true"})
    assert "assword" in newest()
    assert password not in newest()


def test_a_text_cannot_break_the_sentence_or_hide(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("a key", note="x" * 500)
    admin.post(f"{KEYS}{key.pk}/change/", {"note": "\u202e<b>", "log_bodies": "inherit", "active": "on"})

    assert newest() == f"Changed note from “{'x' * 200}…” to “<U+202E><b>”."
    assert "<b>”" not in admin.get("/admin/admin/logentry/").content.decode()


def test_no_entry_has_a_secret(admin: Client) -> None:
    channel = make_channel(GONE)
    secret = "a-secret-of-at-least-16"
    form = {
        "name": "hooks",
        "kind": channel.kind,
        "enabled": "on",
        "url": "https://hooks.test/T0/secret-path",
        "secret": secret,
    }
    admin.post(f"/admin/chatproxy/alertchannel/{channel.pk}/change/", form)
    admin.post(f"/admin/chatproxy/alertchannel/{channel.pk}/delete/", {"post": "yes"})
    texts = " ".join(LogEntry.objects.values_list("change_message", flat=True))

    assert "address (not shown)" in texts.lower()
    assert secret not in texts
    assert "secret-path" not in texts
    assert channel.sealed_url not in texts


# Who has looked at prompts and answers

ERRORS = "range=week&fault=caller&state=new&order=newest"


@pytest.mark.parametrize("role", EVERYBODY)
def test_who_looks_at_a_prompt_is_in_the_log_if_the_setting_says_so(settings: LazySettings, role: str) -> None:
    have_groups()
    call = make_failure(key_name="team a", request_body='{"input": "hi"}')
    client = browser_of(person(role, "ada"))
    pages = (
        f"/admin/usage/request/{call}/change/",
        "/admin/usage/request/export.csv?key=team+a",
        "/admin/usage/errors/export.csv?range=week&fault=caller&state=new&order=newest",
    )
    for settings.AUDIT_BODY_VIEWS in (False, True):
        for page in pages:
            answer = client.get(page)
            assert answer.status_code == 200
            _ = pieces_of(answer) if answer.streaming else answer.content

    found = list(LogEntry.objects.order_by("pk").values_list("user__username", "object_id", "change_message"))
    expected = [
        ("ada", call, "Looked at the prompt and the answer of a call of the key “team a”."),
        ("ada", "", "Exported the calls that match key=team+a, with the texts of errors."),
        ("ada", "", f"Exported the calls that match {ERRORS}, with the texts of errors."),
    ]
    assert found == (expected if role in SEES_BODIES else [])


def test_the_history_of_a_call_says_who_has_looked(settings: LazySettings, admin: Client) -> None:
    settings.AUDIT_BODY_VIEWS = True
    call = make_failure()
    admin.get(f"/admin/usage/request/{call}/change/")
    for page in (f"/admin/usage/request/{call}/history/", "/admin/admin/logentry/"):
        assert "Looked at the prompt" in admin.get(page).content.decode()


# Alerts


@pytest.mark.parametrize("path", ["/admin/", "/admin/usage/dashboard.json"])
def test_titles_of_alerts_are_for_those_who_may_see_alerts(path: str) -> None:
    have_groups()
    make_alert(title="Budget of the key mergers is used up")
    viewer = person("viewer")
    assert b"mergers" in browser_of(viewer).get(path).content
    viewer.groups.get().permissions.remove(*viewer.groups.get().permissions.filter(codename="view_alert"))
    assert b"mergers" not in browser_of(viewer).get(path).content
