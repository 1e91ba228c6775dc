"""The words of the admin's lists and headings, where the theme's own would mislead."""

from __future__ import annotations

import re

import pytest
from django.apps import apps
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import Client, RequestFactory

from chatproxy.alert_models import AlertRule
from proxyapi.models import AccessKey
from tests.support.ledger.pages import REQUESTS, make_call, text_of
from usage.admin_pages.navigation import sections

pytestmark = pytest.mark.django_db
KEYS, PRICES, AUDIT = "/admin/proxyapi/accesskey/", "/admin/usage/modelprice/", "/admin/admin/logentry/"


def seen(admin: Client, path: str) -> str:
    return text_of(admin.get(path).content.decode())


@pytest.mark.parametrize(
    ("path", "words"),
    [(KEYS, "Add one for each."), (PRICES, "Add a price for a model"), (AUDIT, "will be listed here")],
)
def test_an_empty_list_says_what_it_is_for(admin: Client, path: str, words: str) -> None:
    empty, without_matches = seen(admin, path), seen(admin, f"{path}?q=nothing-like-this")

    assert words in empty
    assert "Reset filters" not in empty
    assert words not in without_matches
    assert "Reset filters" in without_matches


def test_a_name_in_the_heading_is_as_it_is_written(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("support-bot")
    for page in ("change/", "usage/", "rotate/", "revoke/"):
        assert "Support-bot" not in seen(admin, f"{KEYS}{key.pk}/{page}")


def heading(admin: Client, path: str) -> str:
    found = re.search(r"<h1.*?</h1>", admin.get(path).content.decode(), flags=re.S)
    assert found
    return " ".join(text_of(found[0]).split())


def test_a_heading_has_our_words_and_no_name_of_an_app(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("support-bot")
    entry = LogEntry.objects.create(
        user=User.objects.get(), object_repr="support-bot", action_flag=CHANGE, change_message="Rotated."
    )
    assert heading(admin, AUDIT) == "Audit log"
    assert heading(admin, f"{AUDIT}?q=support").startswith("Audit log 1 found")
    assert heading(admin, f"{AUDIT}{entry.pk}/change/") == "Audit log chevron_right support-bot"
    assert heading(admin, KEYS) == "Keys"
    assert heading(admin, f"{KEYS}{key.pk}/change/") == "Keys chevron_right support-bot"
    assert heading(admin, "/admin/") == "Dashboard"
    assert heading(admin, "/admin/auth/user/") == "Users"


def test_the_history_of_a_row_is_as_the_audit_log_has_it(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("support-bot")
    page = f"{KEYS}{key.pk}/history/"
    assert "The audit log has no change of it." in seen(admin, page)
    entry = LogEntry.objects.create(
        user=User.objects.get(), content_type=ContentType.objects.get_for_model(AccessKey), object_id=str(key.pk),
        object_repr="support-bot", action_flag=DELETION, change_message="",
    )  # fmt: skip
    said = seen(admin, page)
    assert f"{entry.action_time:%Y-%m-%d %H:%M:%S}" in said
    assert "Time (UTC) User Change" in said
    assert "Deletion" in said


def test_the_audit_log_says_changes_in_words(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("a key")
    common = {
        "user": User.objects.get(), "content_type": ContentType.objects.get_for_model(AccessKey),
        "object_id": str(key.pk), "object_repr": "a key",
    }  # fmt: skip
    entries = [
        LogEntry.objects.create(**common, action_flag=flag, change_message=message)
        for flag, message in ((ADDITION, '[{"added": {}}]'), (DELETION, ""))
    ]
    for page in (AUDIT, f"{AUDIT}{entries[0].pk}/change/"):
        assert "Added." in seen(admin, page)
        assert "added&quot;" not in seen(admin, page)
    assert "Deletion" in seen(admin, AUDIT)


def test_a_call_that_nobody_billed_is_marked_so_in_the_list(admin: Client) -> None:
    make_call(outcome="rejected", status=400, response_model="", usage=None, usage_source="unknown",
              input_tokens=None, cached_tokens=None, output_tokens=None)  # fmt: skip
    assert "not billed" in seen(admin, REQUESTS)
    assert "price" not in seen(admin, REQUESTS).lower().replace("custom prices", "")


def test_help_texts_are_sentences_without_private_words() -> None:
    """They say what a value is, to somebody who has not read the code: no "our", no text that begins with "Of the"."""
    texts = {
        f"{model.__name__}.{field.name}": str(field.help_text)
        for label in ("chatproxy", "proxyapi", "usage")
        for model in apps.get_app_config(label).get_models()
        for field in (*model._meta.fields, *model._meta.many_to_many)
        if field.help_text
    }
    private = re.compile(r"\b[Oo]urs?\b|^(Of|The same of|As) (the|our|it|answered)\b|[^.…]$")
    assert len(texts) > 60
    assert {name: text for name, text in texts.items() if private.search(text)} == {}


def test_lists_use_the_words_of_people_not_of_tables(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("a key")
    LogEntry.objects.create(
        user=User.objects.get(), content_type=ContentType.objects.get_for_model(AccessKey), object_id=str(key.pk),
        object_repr="a key", action_flag=ADDITION, change_message="Added.",
    )  # fmt: skip
    page = admin.get(AUDIT).content.decode().lower()

    assert 'data-label="kind"' in page
    assert "object repr" not in page
    assert 'data-label="content type"' not in page
    assert "show all" not in page
    assert "1 found ( show all )" in seen(admin, f"{AUDIT}?q=a+key")


def test_a_list_has_one_name_in_the_side_bar_and_in_the_tab(admin: Client) -> None:
    page = admin.get("/admin/").content.decode()
    for entry in (
        sections(RequestFactory().get("/admin/"))[1]["items"] + sections(RequestFactory().get("/"))[2]["items"]
    ):
        if entry["link"].startswith("/admin/"):
            listed = admin.get(entry["link"]).content.decode()
            title = re.search(r"<title>(.*?)</title>", listed, flags=re.S)
            assert title
            assert title[1].split("|")[0].strip() == entry["title"]
            assert heading(admin, entry["link"]) == entry["title"]
            assert entry["title"] in page


def test_rules_are_listed_by_name_with_what_they_mean(admin: Client) -> None:
    page = admin.get("/admin/chatproxy/alertrule/").content.decode()
    names = re.findall(r'class="[^"]*field-rule_name[^"]*"[^>]*>.*?<a[^>]*>(.*?)</a>', page, flags=re.S)
    kinds = [name.strip().partition(":")[0] for name in names]
    assert len(kinds) == AlertRule.objects.count()
    assert kinds == sorted(kinds)
    words = text_of(page)
    assert "Price missing: 1 call Calls have no cost because no price is known" in words
    assert "24 h 1 h no" in words
