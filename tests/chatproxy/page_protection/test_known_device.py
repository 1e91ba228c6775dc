"""Limits of logins: nobody can lock out a user from another network, and a known device is counted separately."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatproxy.models import LoginAttempts
from chatproxy.page_protection import login_throttle
from chatproxy.page_protection.known_device import ADMIN_DEVICE
from chatproxy.page_protection.login_throttle import (
    PER_DEVICE,
    PER_NAME_AND_NETWORK,
    PER_NETWORK,
    PER_SITE,
)

LOGIN = "/admin/login/"
CHANGE = "/admin/password_change/"
WRONG = "wrong"
PASSWORD = "the-right-password"
NEW_PASSWORD = "another-right-password"
HOME = "192.0.2.200"


@pytest.fixture
def root(db: None, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # not what is tested, and fast
    return User.objects.create_superuser("root", password=PASSWORD)


def log_in(browser: Client, name: str = "root", *, password: str = WRONG, address: str = HOME) -> int:
    status: int = browser.post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address).status_code
    return status


def attempts() -> int:
    return sum(LoginAttempts.objects.values_list("attempts", flat=True))


def known_browser() -> Client:
    """Returns a browser in which a user has signed in before, without the session."""
    browser = Client()
    assert log_in(browser, password=PASSWORD) == 302
    browser.cookies.pop("chatproxy_session")
    return browser


def block_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses up the attempts of a user name from many networks, with a lowered limit."""
    monkeypatch.setattr(login_throttle, "PER_NAME", 3 * PER_NAME_AND_NETWORK)
    for number in range(3):
        for _ in range(PER_NAME_AND_NETWORK):
            assert log_in(Client(), address=f"198.51.100.{number}") == 200
    assert log_in(Client(), address="203.0.113.1") == 429


# --- networks


@pytest.mark.parametrize("wrong", [1, PER_NAME_AND_NETWORK])
def test_ten_networks_lock_nobody_out(root: User, wrong: int) -> None:
    for number in range(10):
        for _ in range(wrong):
            assert log_in(Client(), address=f"198.51.100.{number}") == 200

    assert log_in(Client(), password=PASSWORD) == 302


def test_a_network_that_is_blocked_counts_for_no_name(root: User) -> None:
    for number in range(PER_NETWORK):
        log_in(Client(), f"user-{number}", address="198.51.100.1")
    before = attempts()
    for number in range(5):
        assert log_in(Client(), f"another-{number}", address="198.51.100.1") == 429

    assert attempts() == before + 5  # of the network alone
    assert log_in(Client(), "another-1", address="198.51.100.2") == 200


def test_guessing_at_one_name_is_bounded_over_all_networks(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    block_name(monkeypatch)
    assert log_in(Client(), password=PASSWORD, address="203.0.113.2") == 429
    assert log_in(Client(), "somebody else", address="203.0.113.2") == 200


@pytest.mark.parametrize("form", ["::ffff:{}", "::FFFF:0:{}", "64:ff9b::{}"])
def test_an_ipv4_address_in_ipv6_is_that_address(root: User, form: str) -> None:
    for number in range(PER_NETWORK):
        log_in(Client(), f"user-{number}", address="198.51.100.1")

    assert log_in(Client(), "somebody", address=form.format("198.51.100.1")) == 429
    assert log_in(Client(), "somebody", address=form.format("198.51.100.2")) == 200


def test_a_48_is_a_bounded_number_of_strangers(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "PER_SITE", 12)
    statuses = [log_in(Client(), f"user-{number}", address=f"2001:db8:7:{number:x}::1") for number in range(13)]

    assert PER_NETWORK < PER_SITE < 65_536
    assert statuses == [200] * 12 + [429]
    assert log_in(Client(), password=PASSWORD, address="2001:db8:8::1") == 302


def test_an_attempt_is_counted_in_one_statement_whatever_is_sent(root: User) -> None:
    browser = Client()
    for number in range(PER_NETWORK):
        log_in(browser, f"user-{number}", address="2001:db8:7::1")
    browser.cookies[ADMIN_DEVICE.name] = "W10:forged:signature"
    with CaptureQueriesContext(connection) as queries:
        assert log_in(browser, address="2001:db8:7::1") == 429

    assert [query["sql"].split()[0] for query in queries] == ["DELETE", "WITH"]


# --- devices


def test_who_has_signed_in_before_is_not_locked_out(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = known_browser()
    block_name(monkeypatch)
    for number in range(PER_NETWORK):
        log_in(Client(), f"user-{number}")
    assert log_in(Client(), password=PASSWORD) == 429

    assert log_in(browser, password=PASSWORD) == 302


def test_a_known_device_counts_for_itself_and_is_bounded(root: User) -> None:
    browser = known_browser()
    statuses = [log_in(browser) for _ in range(PER_DEVICE + 1)]

    assert statuses == [200] * PER_DEVICE + [429]
    assert log_in(browser, password=PASSWORD) == 429
    assert log_in(Client(), password=PASSWORD) == 302


def test_a_device_is_known_for_its_own_user_only(root: User) -> None:
    User.objects.create_superuser("other", password=PASSWORD)
    browser = known_browser()
    statuses = [log_in(browser, "other") for _ in range(PER_NAME_AND_NETWORK + 1)]

    assert statuses == [200] * PER_NAME_AND_NETWORK + [429]


def test_each_login_is_another_device(root: User) -> None:
    browser = known_browser()
    first = browser.cookies[ADMIN_DEVICE.name].value
    assert log_in(browser, password=PASSWORD) == 302

    assert browser.cookies[ADMIN_DEVICE.name].value != first


def test_a_new_password_ends_the_devices_of_the_old_one(root: User) -> None:
    stolen = known_browser().cookies[ADMIN_DEVICE.name].value
    browser = Client()
    assert log_in(browser, password=PASSWORD) == 302
    fields = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    assert browser.post(CHANGE, fields).status_code == 302

    assert not is_known(stolen)
    assert is_known(browser.cookies[ADMIN_DEVICE.name].value)


@pytest.mark.parametrize("forged", ["", "x", "W10:x:y", "\u00e9", "a:b:c:d", "x" * 5000])
def test_a_forged_cookie_makes_no_device(root: User, forged: str) -> None:
    good = known_browser().cookies[ADMIN_DEVICE.name].value

    assert is_known(good)
    assert not is_known(forged)
    assert not is_known(good[:-1] + ("A" if good[-1] != "A" else "B"))


def test_the_cookie_is_the_logins_alone(root: User) -> None:
    browser = Client()
    assert log_in(browser) == 200
    assert ADMIN_DEVICE.name not in browser.cookies
    assert log_in(browser, password=PASSWORD) == 302
    cookie = browser.cookies[ADMIN_DEVICE.name]

    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/admin/")
    assert root.password not in cookie.value


def is_known(cookie: str) -> bool:
    """Whether an attempt with this cookie is counted separately, as that of a known device."""
    browser = Client()
    browser.cookies[ADMIN_DEVICE.name] = cookie
    before = set(LoginAttempts.objects.values_list("subject", flat=True))
    log_in(browser, address="203.0.113.77")
    made = set(LoginAttempts.objects.values_list("subject", flat=True)) - before
    LoginAttempts.objects.filter(subject__in=made).delete()
    return len(made) == 1


# --- where a login leads


def test_a_login_without_next_leads_to_the_admin(root: User) -> None:
    answer = Client().post(LOGIN, {"username": "root", "password": PASSWORD})

    assert (answer.status_code, answer["location"]) == (302, "/admin/")


def test_a_short_password_is_no_new_password(root: User) -> None:
    browser = Client()
    log_in(browser, password=PASSWORD)
    answer = browser.post(CHANGE, {"old_password": PASSWORD, "new_password1": "1", "new_password2": "1"})

    assert answer.status_code == 200
    assert "at least 12 characters" in answer.content.decode()


@pytest.mark.parametrize("days", [-1, 1])
def test_a_host_with_a_wrong_clock_counts_as_the_others_do(
    root: User, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    for _ in range(PER_NAME_AND_NETWORK - 1):
        assert log_in(Client()) == 200
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + timedelta(days=days))
    assert log_in(Client()) == 200
    answer = Client().post(LOGIN, {"username": "root", "password": WRONG}, REMOTE_ADDR=HOME)
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= login_throttle.WINDOW.total_seconds()
