"""A password alone does not sign in who has set up a second factor, and its codes cannot be guessed."""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx2
import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ADMIN_PASSWORD, PATIENCE, Gateway, run_gateway
from tests.support.servers.openid_provider import token_in

FACTORS = "/admin/accounts/second-factor/"
CODE = re.compile(r"\b[0-9a-f]{8}\b")


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    settings = {"SECOND_FACTOR": "true", "ADMIN_PASSWORD": ADMIN_PASSWORD}
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, tmp_path_factory.mktemp("factor"), **settings) as gateway,
    ):
        yield gateway


@pytest.fixture
def other_host(_simulator: Simulator, gateway: Gateway, tmp_path: Path) -> Iterator[Gateway]:
    """Another server with the same database and the same secrets."""
    url = gateway.variables["DATABASE_URL"]
    with run_gateway(_simulator.base_url, url, tmp_path, SECOND_FACTOR="true") as other:
        yield other


class Factors(NamedTuple):
    """The second factors of the first admin: the secret of an authenticator app, and unused recovery codes."""

    secret: str
    codes: list[str]


@pytest.fixture(scope="module")
def factors(gateway: Gateway) -> Factors:
    """Sets up an authenticator app and recovery codes for the first admin."""
    browser = gateway.sign_in()
    page = browser.get(f"{FACTORS}totp/activate/")
    assert page.url.path == "/admin/accounts/password/"  # a session alone does not add a factor
    form = {"csrfmiddlewaretoken": token_in(page), "password": ADMIN_PASSWORD}
    page = browser.post(str(page.url), data=form)
    secret = re.search(r'value="([A-Z2-7]{32})"', page.text)
    assert secret is not None, (page.url, page.text[-1500:])
    form = {"csrfmiddlewaretoken": token_in(page), "code": totp(secret[1])}
    answer = browser.post(f"{FACTORS}totp/activate/", data=form)
    assert "Incorrect code" not in answer.text
    found = CODE.findall(browser.get(f"{FACTORS}recovery-codes/").text)
    assert len(found) == 10
    with psycopg.connect(gateway.variables["DATABASE_URL"]) as connection:
        stored = str(connection.execute("SELECT data::text FROM mfa_authenticator").fetchall())
        told = str(connection.execute("SELECT change_message FROM django_admin_log").fetchall())
    assert secret[1] not in stored  # it is encrypted
    assert "Added the own second factor “TOTP Authenticator”." in told
    assert "Added the own second factor “Recovery codes”." in told
    browser.close()
    return Factors(secret[1], found)


@pytest.fixture(scope="module")
def codes(factors: Factors) -> list[str]:
    return factors.codes


def totp(secret: str) -> str:
    """The code that an authenticator app shows now for a secret (RFC 6238)."""
    digest = hmac.digest(base64.b32decode(secret), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"


def enter_password(gateway: Gateway) -> tuple[httpx2.Client, httpx2.Response]:
    browser = httpx2.Client(base_url=gateway.url, timeout=PATIENCE, follow_redirects=True)
    form = {"username": "admin", "password": ADMIN_PASSWORD}
    form["csrfmiddlewaretoken"] = token_in(browser.get("/admin/login/"))
    return browser, browser.post("/admin/login/?next=/admin/usage/request/", data=form)


def enter_code(gateway: Gateway, code: str) -> httpx2.Response:
    """Signs in with the password and the code of a second factor; returns the last answer."""
    browser, page = enter_password(gateway)
    with closing(browser):
        return browser.post(f"{FACTORS}authenticate/", data={"csrfmiddlewaretoken": token_in(page), "code": code})


def test_a_password_is_not_enough(gateway: Gateway, codes: list[str]) -> None:
    browser, page = enter_password(gateway)
    assert page.url.path == f"{FACTORS}authenticate/"
    for path in ("/admin/", "/admin/usage/request/", FACTORS, f"{FACTORS}recovery-codes/"):
        assert browser.get(path).url.path in ("/admin/login/", f"{FACTORS}authenticate/"), path

    page = browser.get(f"{FACTORS}authenticate/")
    wrong = browser.post(f"{FACTORS}authenticate/", data={"csrfmiddlewaretoken": token_in(page), "code": "00000000"})
    assert "Incorrect code" in wrong.text
    form = {"csrfmiddlewaretoken": token_in(wrong), "code": codes[0]}
    assert browser.post(f"{FACTORS}authenticate/", data=form).url.path == "/admin/usage/request/"
    browser.close()


def test_a_code_counts_once(gateway: Gateway, codes: list[str]) -> None:
    enter_code(gateway, codes[1])
    assert "Incorrect code" in enter_code(gateway, codes[1]).text


def test_a_code_of_the_app_counts_once_on_all_hosts(gateway: Gateway, other_host: Gateway, factors: Factors) -> None:
    shown = ""
    while shown != totp(factors.secret):  # at first, or since the app has shown another code meanwhile
        shown = totp(factors.secret)
        first, last = (enter_code(host, shown) for host in (gateway, other_host))
    assert first.url.path == "/admin/usage/request/"
    assert "Incorrect code" in last.text


def test_a_session_alone_shows_no_codes_and_removes_no_factor(gateway: Gateway, codes: list[str]) -> None:
    browser, page = enter_password(gateway)
    form = {"csrfmiddlewaretoken": token_in(page), "code": codes[2]}
    browser.post(f"{FACTORS}authenticate/", data=form)
    for path in ("recovery-codes/", "recovery-codes/generate/", "totp/deactivate/", "webauthn/add/"):
        page = browser.get(f"{FACTORS}{path}")
        assert page.url.path == "/admin/accounts/password/", path
        assert not CODE.search(page.text)
    # Not in the admin either, where the factors of others are deleted.
    with psycopg.connect(gateway.variables["DATABASE_URL"]) as connection:
        [*ids] = connection.execute("SELECT id FROM mfa_authenticator").fetchall()
    for (one,) in ids:
        assert browser.get(f"/admin/mfa/authenticator/{one}/change/").status_code == 200
        assert browser.get(f"/admin/mfa/authenticator/{one}/delete/").status_code == 403
    browser.close()


def test_after_a_change_of_the_secret_no_code_opens_anything(gateway: Gateway, codes: list[str]) -> None:
    damaged = "UPDATE mfa_authenticator SET data = replace(data::text, '\": \"', '\": \"x')::jsonb"
    mended = "UPDATE mfa_authenticator SET data = replace(data::text, '\": \"x', '\": \"')::jsonb"
    browser, page = enter_password(gateway)
    form = {"csrfmiddlewaretoken": token_in(page), "code": codes[4]}
    with psycopg.connect(gateway.variables["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(damaged)
        answer = browser.post(f"{FACTORS}authenticate/", data=form)
        connection.execute(mended)
    assert answer.status_code == 403
    assert browser.get("/admin/").url.path == "/admin/login/"
    browser.close()


def test_codes_cannot_be_guessed(gateway: Gateway, codes: list[str]) -> None:
    browser, page = enter_password(gateway)
    for number in range(12):
        form = {"csrfmiddlewaretoken": token_in(page), "code": f"{number:08d}"}
        answer = browser.post(f"{FACTORS}authenticate/", data=form)
        if answer.status_code == 429:
            break
        if number in (3, 8):  # forms that send on whoever is not signed in: no success, which would end the count
            other = (f"{FACTORS}reauthenticate/", "/admin/accounts/password/")[number == 8]
            browser.post(other, data={**form, "password": "wrong"})
    assert answer.status_code == 429
    browser.close()

    # Another session of the same account waits, too, with the right code.
    browser, page = enter_password(gateway)
    form = {"csrfmiddlewaretoken": token_in(page), "code": codes[3]}
    assert browser.post(f"{FACTORS}authenticate/", data=form).status_code == 429
    browser.close()
