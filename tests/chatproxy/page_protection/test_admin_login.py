"""Logins of the admin: how often a password may be tried, what its pages may load, and which secrets are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import Client
from django.utils import timezone

from chatproxy.alerts.host_conditions import LOGIN_REFUSALS
from chatproxy.configuration import setting_reader
from chatproxy.models import LoginAttempts, LoginLimit
from chatproxy.page_protection import login_throttle
from chatproxy.page_protection.login_throttle import PER_NAME_AND_NETWORK, PER_NETWORK, WINDOW
from chatproxy.start.first_start import GENERATORS
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import Gateway
from usage.metric_counters import counters

LOGIN = "/admin/login/"
PASSWORD = "the-right-password"
WRONG = "wrong"


@pytest.fixture
def root(db: None, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # not what is tested, and fast
    return User.objects.create_superuser("root", password=PASSWORD)


def log_in(name: str = "root", *, password: str = WRONG, address: str = "192.0.2.1", **options: Any) -> Any:
    return Client(**options).post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address)


def test_it_works(root: User) -> None:
    assert log_in(password=PASSWORD).status_code == 302
    assert log_in().status_code == 200


def test_a_name_is_tried_so_often_from_one_network(root: User) -> None:
    statuses = [log_in().status_code for _ in range(PER_NAME_AND_NETWORK + 1)]
    refused = log_in(password=PASSWORD)

    assert statuses == [200] * PER_NAME_AND_NETWORK + [429]
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= WINDOW.total_seconds()
    assert "Try again in 15 minutes." in refused.content.decode()


def test_refused_logins_are_counted_as_alerts_count_them(root: User) -> None:
    before = counters.values.get(LOGIN_REFUSALS, 0)
    for _ in range(PER_NAME_AND_NETWORK + 2):
        log_in()

    assert counters.values[LOGIN_REFUSALS] == before + 2


@pytest.mark.parametrize("spelling", ["ROOT", " root", "\uff32oot"])
def test_a_name_is_the_same_however_it_is_spelled(root: User, spelling: str) -> None:
    for _ in range(PER_NAME_AND_NETWORK):
        log_in(spelling)
    assert log_in().status_code == 429


@pytest.mark.parametrize("other", ["192.0.2.1", "2001:db8::2"])
def test_an_address_tries_so_often_whatever_name(root: User, other: str) -> None:
    first = "2001:db8::1" if ":" in other else other
    statuses = {log_in(f"user-{number}", address=first).status_code for number in range(PER_NETWORK)}

    assert statuses == {200}
    assert log_in("somebody", address=other).status_code == 429
    assert log_in(password=PASSWORD, address="198.51.100.1").status_code == 302


def test_a_login_starts_its_name_anew_but_not_its_address(root: User) -> None:
    for _ in range(PER_NAME_AND_NETWORK - 1):
        log_in()
    assert log_in(password=PASSWORD).status_code == 302
    assert log_in().status_code == 200
    for number in range(PER_NETWORK - PER_NAME_AND_NETWORK):
        assert log_in(f"user-{number}").status_code == 200
    assert log_in("another").status_code == 429


def test_the_count_ends_with_its_window(root: User) -> None:
    for _ in range(PER_NAME_AND_NETWORK + 1):
        log_in()
    LoginAttempts.objects.update(since=timezone.now() - 2 * WINDOW)  # `now()` of this transaction may be long ago
    assert log_in(password=PASSWORD).status_code == 302
    assert set(LoginAttempts.objects.values_list("attempts", flat=True)) == {0}  # what was over is gone


@pytest.mark.django_db(transaction=True)
def test_attempts_at_once_get_no_further() -> None:
    def attempt() -> None:
        waits.append(login_throttle.count_attempt([LoginLimit("somebody", PER_NAME_AND_NETWORK)]))
        connections.close_all()

    waits: list[float] = []
    threads = [threading.Thread(target=attempt) for _ in range(PER_NAME_AND_NETWORK * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert waits.count(0.0) == PER_NAME_AND_NETWORK
    assert len(waits) == PER_NAME_AND_NETWORK * 3


def test_a_foreign_page_uses_up_nobodys_attempts(root: User) -> None:
    for _ in range(PER_NAME_AND_NETWORK + 1):
        assert log_in(enforce_csrf_checks=True).status_code == 403
    assert not LoginAttempts.objects.exists()


def test_what_was_typed_is_not_kept(root: User) -> None:
    log_in("my-password-in-the-wrong-field")
    kept = str(list(LoginAttempts.objects.values()))

    assert "my-password" not in kept
    assert "192.0.2.1" not in kept


# --- headers and cookies, over the socket


def test_the_admin_is_in_no_frame_and_runs_nothing_foreign(gateway: Gateway) -> None:
    for path in (LOGIN, "/admin/", "/static/admin/js/cancel.js", "/static/nowhere.js"):
        headers = gateway.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self' 'unsafe-eval';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert path.startswith("/static/") or headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


def test_cookies_stay_on_tls_where_there_is_tls(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(TRUSTED_PROXIES="127.0.0.1")
    plain = gateway.http.get(LOGIN).headers["set-cookie"]
    over_tls = gateway.http.get(LOGIN, headers={"x-forwarded-proto": "https"}).headers["set-cookie"]

    assert "secure" not in plain.lower()
    assert "; secure" in over_tls.lower()
    assert "samesite=lax" in over_tls.lower()


def test_workers_count_together(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    statuses = []
    for _ in range(PER_NAME_AND_NETWORK + 1):
        with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', http.get(LOGIN).text)
            assert token is not None
            form = {"csrfmiddlewaretoken": token[1], "username": "whoever", "password": "wrong"}
            statuses.append(http.post(LOGIN, data=form).status_code)

    assert statuses == [200] * PER_NAME_AND_NETWORK + [429]


# --- what a start refuses


def start(tmp_path: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *options],
        cwd=setting_reader.BASE_DIR,
        env={**os.environ, "DATA_DIR": str(tmp_path), "PORT": "1", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_debug_does_not_start(tmp_path: Path) -> None:
    done = start(tmp_path, "serve", DEBUG="true")

    assert done.returncode == 1
    assert done.stderr == "chatproxy: DEBUG is true, which only `make dev` and `make demo` start with; unset it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--reload", "--demo"])
def test_debug_starts_where_it_is_meant_to(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    done = start(tmp_path, "serve", option, DEBUG="true", DATA_DIR=str(tmp_path / "file" / "below"))

    assert "below cannot be written" in done.stderr  # it got further


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1", "localhost.evil"])  # noqa: S104  (refused)
def test_debug_does_not_start_where_others_reach_it(tmp_path: Path, host: str) -> None:
    done = start(tmp_path, "serve", "--reload", DEBUG="true", HOST=host)

    assert done.returncode == 1
    expected = f"chatproxy: DEBUG is true and HOST {host} can be reached by others; 127.0.0.1 or ::1 only\n"
    assert done.stderr == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_SECRET_KEY", "x" * 60),
        ("DJANGO_SECRET_KEY", "ab" * 30),
        ("DJANGO_SECRET_KEY", "django-insecure-" + "a8f3kq0z" * 8),
        ("DJANGO_SECRET_KEY", "short but 0therwise @ good one"),
        ("KEY_ENCRYPTION_KEY", "x" * 60),
        ("KEY_ENCRYPTION_KEY", "short but 0therwise @ good one"),
    ],
)
def test_a_weak_secret_does_not_start(name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{name} is .*at least \d\d (random )?characters") as refused:
        setting_reader.read({name: value})
    assert value not in str(refused.value)


def test_generated_secrets_are_strong(tmp_path: Path) -> None:
    for _ in range(200):
        setting_reader.read({"DJANGO_SECRET_KEY": GENERATORS["DJANGO_SECRET_KEY"]()})


def test_the_deployment_checks_are_clean(tmp_path: Path) -> None:
    done = start(
        tmp_path,
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        ALLOWED_HOSTS="ai.example.com",
        CSRF_TRUSTED_ORIGINS="https://ai.example.com",
    )

    assert done.returncode == 0, done.stderr
