"""Whoever changes their own password enters the old one, and cannot guess it: a session may be stolen."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import NoReverseMatch, reverse

from chatproxy.models import LoginAttempts
from chatproxy.page_protection.login_throttle import CHANGE_VIEW, LOGIN_VIEWS, PER_DEVICE

PASSWORD = "the-right-password"
WRONG = "wrong"


@pytest.fixture
def root(db: None, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # not what is tested, and fast
    return User.objects.create_superuser("root", password=PASSWORD)


def signed_in(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def change_password(browser: Client, old: str) -> Any:
    new = f"{PASSWORD}-anew"
    return browser.post("/admin/password_change/", {"old_password": old, "new_password1": new, "new_password2": new})


def test_a_session_cannot_guess_its_password(root: User) -> None:
    statuses = [change_password(signed_in(root), WRONG).status_code for _ in range(PER_DEVICE + 1)]

    assert statuses == [200] * PER_DEVICE + [429]
    assert change_password(signed_in(root), PASSWORD).status_code == 429
    root.refresh_from_db()
    assert root.check_password(PASSWORD)


def test_a_changed_password_starts_the_count_anew(root: User) -> None:
    for _ in range(PER_DEVICE - 1):
        change_password(signed_in(root), WRONG)
    assert change_password(signed_in(root), PASSWORD).status_code == 302
    assert set(LoginAttempts.objects.values_list("attempts", flat=True)) == {PER_DEVICE - 1}  # of the network
    root.refresh_from_db()
    assert change_password(signed_in(root), WRONG).status_code == 200


def test_a_changed_password_is_in_the_audit_log(root: User) -> None:
    change_password(signed_in(root), WRONG)
    assert not LogEntry.objects.exists()

    change_password(signed_in(root), PASSWORD)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (root, str(root.pk), "Changed the own password.")


def test_whoever_may_not_open_the_admin_starts_no_count_anew(root: User) -> None:
    person = User.objects.create_user("person", password=PASSWORD)
    statuses = {change_password(signed_in(person), PASSWORD).status_code for _ in range(PER_DEVICE)}

    assert statuses == {302}  # to the login
    assert PER_DEVICE in LoginAttempts.objects.values_list("attempts", flat=True)


def test_each_page_that_asks_for_the_password_counts_attempts(root: User) -> None:
    browser, asking = signed_in(root), set()
    for name in {str(found) for one in admin.site.get_urls() if (found := getattr(one, "name", None))}:
        with suppress(NoReverseMatch):  # the page of one object
            if 'autocomplete="current-password"' in browser.get(reverse(f"admin:{name}")).content.decode():
                asking.add(f"admin:{name}")

    assert asking == {CHANGE_VIEW}  # somebody who is signed in is not shown the login
    assert asking <= set(LOGIN_VIEWS)
