"""A key signs in by one form and sees its own numbers, and nobody else's, for as long as it works.

Over 300 lines, since its tests share one server and one person who signs in with a key.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import count
from typing import Any

import httpx2
import pytest
from django.core import signing
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatproxy.models import LoginAttempts
from chatproxy.page_protection.known_device import KEY_DEVICE
from chatproxy.page_protection.login_throttle import PER_NETWORK
from proxyapi.keys.keyring import Keyring
from proxyapi.models import AccessKey
from proxyapi.pages import key_sessions, my_usage
from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY
from tests.chaos.lab import Postgres
from tests.support.ledger.equal_sums import clock_at
from tests.support.ledger.pages import HOSTILE, charts, make_call, make_failure, text_of, tiles
from tests.support.moved_clock import PutClock
from tests.support.polling import wait_until, wait_until_quick
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway

HOME = "/my-usage/"
DATA = f"{HOME}data"
SIGN_IN, SIGN_OUT = f"{HOME}sign-in", f"{HOME}sign-out"
ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "words of a prompt"}]}
Browsers = Callable[[Gateway], httpx2.Client]


@pytest.fixture
def browse() -> Iterator[Browsers]:
    """Makes browsers, each with cookies of its own."""
    with ExitStack() as open_ones:
        yield lambda gateway: open_ones.enter_context(httpx2.Client(base_url=gateway.url, timeout=PATIENCE))


def post(browser: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(HOME).text)
    assert token is not None
    return browser.post(path, data={**fields, "csrfmiddlewaretoken": token[1]})


def sign_in(browser: httpx2.Client, text: str) -> httpx2.Response:
    return post(browser, SIGN_IN, key=text)


# --- over the socket


def test_it_works(gateway: Gateway, browse: Browsers) -> None:
    text = gateway.make_key("mine", "--budget-day", "5", "--requests-per-minute", "60")
    gateway.make_key("secret team")
    gateway.row(gateway.http.post("/openai", json={**ASKED, "security_key": text}))
    calls = gateway.count("WHERE key_name = 'mine'")
    browser = browse(gateway)
    answer = sign_in(browser, text)
    page = browser.get(HOME)

    assert (answer.status_code, answer.headers["location"]) == (302, HOME)
    assert page.status_code == 200
    assert tiles(page.text)["calls"].startswith(f"Calls {calls} ")
    said = text_of(unescape(page.text)).replace("\u202f", " ")
    assert "of $5.00 today" in said
    assert "Requests per minute 60" in said
    assert "words of a prompt" not in page.text
    assert "secret team" not in page.text
    assert "/admin/" not in page.text
    assert browser.get(DATA).json()["fragments"].keys() == {"budgets", "tiles", "used", "own_failures", "own_calls"}


def test_the_key_is_nowhere_but_in_the_form(gateway: Gateway, browse: Browsers) -> None:
    text = gateway.make_key("kept nowhere")
    browser = browse(gateway)
    answers = [sign_in(browser, text), browser.get(HOME), browser.get(DATA), sign_in(browse(gateway), f"{text}x")]

    for answer in answers:
        assert text not in answer.text
        assert text not in str(answer.headers)
        assert text not in str(answer.url)
    cookie = browser.cookies[key_sessions.COOKIE]
    assert base64.urlsafe_b64decode(cookie.partition(":")[0] + "==") == b'"kept nowhere"'
    assert text not in gateway.log


def test_the_cookie_is_the_servers_and_this_pages_alone(gateway: Gateway, browse: Browsers) -> None:
    header = next(
        value
        for value in sign_in(browse(gateway), SECURITY_KEY).headers.get_list("set-cookie")
        if value.startswith(key_sessions.COOKIE)
    )

    for part in ("HttpOnly", "SameSite=Strict", "Path=/my-usage/", f"Max-Age={key_sessions.COOKIE_SECONDS}"):
        assert part in header


def test_nothing_foreign_runs_and_nothing_is_kept(gateway: Gateway, browse: Browsers) -> None:
    browser = browse(gateway)
    door = browser.get(HOME)
    sign_in(browser, SECURITY_KEY)
    for answer in (door, browser.get(HOME), browser.get(DATA), sign_in(browse(gateway), "wrong")):
        policy = answer.headers["content-security-policy"]
        assert policy == CONTENT_SECURITY_POLICY
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        inside = [script for script in re.findall(r"<script[^>]*>", answer.text) if "src=" not in script]
        assert set(inside) <= {'<script id="charts" type="application/json">'}
        assert not re.findall(r"<style|\sstyle=|\son[a-z]+=", answer.text)


@pytest.mark.parametrize("text", ["", "wrong", "cp-" + "x" * 43, "cp-" + "é" * 43, "\0", "x" * 60_000])
def test_what_is_no_key_opens_nothing(gateway: Gateway, browse: Browsers, text: str) -> None:
    browser = browse(gateway)
    answer = sign_in(browser, text)

    assert answer.status_code == 403
    assert "not known, or is no longer valid" in answer.text
    assert key_sessions.COOKIE not in browser.cookies
    assert browser.get(DATA).status_code == 401


def test_a_form_of_a_foreign_page_signs_nobody_in(gateway: Gateway, browse: Browsers) -> None:
    browser = browse(gateway)

    assert browser.post(SIGN_IN, data={"key": SECURITY_KEY}).status_code == 403
    assert key_sessions.COOKIE not in browser.cookies
    for path in (SIGN_IN, SIGN_OUT):
        assert browser.get(path, params={"key": SECURITY_KEY}).status_code == 405


def test_the_built_in_key_sees_itself(gateway: Gateway, browse: Browsers) -> None:
    browser = browse(gateway)
    assert sign_in(browser, SECURITY_KEY).status_code == 302
    page = browser.get(HOME).text

    assert re.search(r"<h1[^>]*>.*default</h1>", page)
    assert "no limit" in page


def test_signing_out(gateway: Gateway, browse: Browsers) -> None:
    browser = browse(gateway)
    sign_in(browser, SECURITY_KEY)
    assert post(browser, SIGN_OUT).status_code == 302
    assert key_sessions.COOKIE not in browser.cookies
    assert 'name="key"' in browser.get(HOME).text


@pytest.mark.parametrize("ending", ["revoke", "rotate"])
def test_a_key_that_ends_sees_nothing_within_seconds(gateway: Gateway, browse: Browsers, ending: str) -> None:
    names = (f"to {ending} {number}" for number in count())

    def end_a_key() -> float:
        """Returns how many seconds after a key's end its page is closed."""
        name = next(names)
        text = gateway.make_key(name)
        browser = browse(gateway)
        sign_in(browser, text)
        assert browser.get(DATA).status_code == 200
        assert gateway.manage("keys", ending, name).returncode == 0
        ended_at = time.monotonic()
        wait_until(lambda: browser.get(DATA).status_code == 401)
        seconds = time.monotonic() - ended_at
        assert 'name="key"' in browser.get(HOME).text
        assert sign_in(browser, text).status_code == 403
        return seconds

    wait_until_quick(end_a_key, 5)


def test_without_the_database_it_says_so(outage: tuple[Gateway, Postgres], browse: Browsers) -> None:
    gateway, postgres = outage
    browser = browse(gateway)
    sign_in(browser, SECURITY_KEY)
    postgres.stop()
    answers = [browser.get(HOME), browser.get(DATA), sign_in(browse(gateway), SECURITY_KEY)]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "The database is away" in answer.text
    assert "Traceback" not in gateway.log, gateway.log
    postgres.start()
    wait_until(lambda: browser.get(HOME).status_code == 200)


# --- in one process


@pytest.fixture
def keys(settings: Any, tmp_path: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr("proxyapi.keys.keyring.REFRESH_SECONDS", 0.01)
    keyring = Keyring()
    monkeypatch.setattr("proxyapi.pages.key_sessions.keyring", keyring)
    keyring.start()
    yield keyring
    keyring.stop()


def make_key(keyring: Keyring, name: str, **rules: Any) -> tuple[AccessKey, str]:
    key, text = AccessKey.objects.issue(name, **rules)
    wait_until(lambda: keyring.find(text))
    return key, text


def signed_in(text: str) -> Client:
    client = Client()
    assert client.post(SIGN_IN, {"key": text}).status_code == 302
    return client


def test_nothing_of_another_key_is_in_it(keys: Keyring) -> None:
    _, text = make_key(keys, "mine")
    make_call(1, key_name="mine")
    make_failure(2, key_name="mine", error_message="mine broke")
    make_call(1, key_name="secret", route="/secret", response_model="secret-model")
    make_failure(1, key_name="secret", error_message="secret broke")
    client = signed_in(text)
    page = client.get(HOME).content.decode()

    assert "secret" not in page + client.get(DATA, {"key": "secret"}).content.decode()
    assert tiles(page)["calls"].startswith("Calls 2")
    assert "mine broke" in page
    assert {line["name"]: sum(line["values"]) for line in charts(page)["calls"]} == {"Success": 1, "Timeout": 1}


@pytest.mark.parametrize(("chosen", "shown"), [("day", {"new"}), ("month", {"new", "old"})])
@pytest.mark.parametrize("address", [HOME, DATA])
def test_the_newest_calls_are_those_of_the_time_shown(
    keys: Keyring, address: str, chosen: str, shown: set[str]
) -> None:
    _, text = make_key(keys, "mine")
    made = {name: make_call(minutes, key_name="mine") for name, minutes in (("new", 1), ("old", 5 * 24 * 60))}
    page = signed_in(text).get(address, {"range": chosen}).content.decode()

    assert {name for name, request_id in made.items() if str(request_id) in page} == shown


def test_after_a_rotation_each_text_opens_it_while_it_works(keys: Keyring) -> None:
    key, old = make_key(keys, "mine")
    with_old = signed_in(old)
    new = key.rotate(timedelta(hours=1))
    wait_until(lambda: keys.find(new))
    with_new = signed_in(new)
    assert [client.get(DATA).status_code for client in (with_old, with_new)] == [200, 200]
    assert [client.get(f"{HOME}calls/").status_code for client in (with_old, with_new)] == [302, 200]
    key.rotate(timedelta(hours=1))  # ends the first one
    wait_until(lambda: keys.find(old) is None)

    assert [client.get(DATA).status_code for client in (with_old, with_new)] == [401, 200]


def test_a_cookie_ends_after_an_hour(keys: Keyring, put_clock: PutClock) -> None:
    _, text = make_key(keys, "mine")
    client = signed_in(text)
    put_clock(timedelta(seconds=key_sessions.COOKIE_SECONDS - 60))
    assert client.get(DATA).status_code == 200
    put_clock(timedelta(seconds=key_sessions.COOKIE_SECONDS + 1))

    assert client.get(DATA).status_code == 401
    assert "an hour is over" in client.get(HOME).content.decode()


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        ":",
        "x",
        "é",
        signing.dumps("mine"),
        signing.dumps("mine", salt=key_sessions.SALT),
        signing.dumps(["mine"]),
        signing.dumps({"a": 1}),
        base64.urlsafe_b64encode(b"[" * 6000).decode(),
    ],
    ids=["empty", "colon", "letter", "not ASCII", "unsalted", "signed", "a list", "an object", "deep"],
)
def test_a_forged_cookie_opens_nothing(keys: Keyring, cookie: str) -> None:
    make_key(keys, "mine")
    request = RequestFactory().get(DATA)
    request.COOKIES[key_sessions.COOKIE] = cookie

    assert my_usage.data(request).status_code == 401


def test_a_key_that_is_for_another_cookie_opens_nothing(keys: Keyring) -> None:
    _, mine = make_key(keys, "mine")
    make_key(keys, "other")
    client = signed_in(mine)
    signed = client.cookies[key_sessions.COOKIE].value.partition(":")[2]
    other = base64.urlsafe_b64encode(b'"other"').decode().rstrip("=")
    client.cookies[key_sessions.COOKIE] = f"{other}:{signed}"

    assert client.get(DATA).status_code == 401


def test_attempts_are_counted_by_address(keys: Keyring) -> None:
    _, text = make_key(keys, "mine")
    statuses = {Client().post(SIGN_IN, {"key": f"wrong {number}"}).status_code for number in range(PER_NETWORK)}
    refused = Client().post(SIGN_IN, {"key": text})

    assert statuses == {403}
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 900
    assert "Try again in 15 minutes." in refused.content.decode()
    assert refused["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert Client().post(SIGN_IN, {"key": text}, REMOTE_ADDR="198.51.100.1").status_code == 302
    assert Client().post("/admin/login/", {"username": "x", "password": "y"}).status_code == 200
    assert text not in str(list(LoginAttempts.objects.values()))


def test_a_device_that_has_signed_in_is_not_locked_out_by_its_neighbours(keys: Keyring) -> None:
    key, text = make_key(keys, "mine")
    client = signed_in(text)
    for number in range(PER_NETWORK):
        Client().post(SIGN_IN, {"key": f"wrong {number}"})

    assert Client().post(SIGN_IN, {"key": text}).status_code == 429
    assert client.post(SIGN_IN, {"key": text}).status_code == 302
    cookie = client.cookies[KEY_DEVICE.name]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/my-usage/")
    assert text not in cookie.value
    assert key.digest not in cookie.value

    new = key.rotate()
    wait_until(lambda: keys.find(new) and not keys.find(text))
    assert client.post(SIGN_IN, {"key": new}).status_code == 429


def test_who_signs_in_uses_up_no_attempt(keys: Keyring) -> None:
    _, text = make_key(keys, "mine")
    for _ in range(PER_NETWORK + 1):
        signed_in(text)
    assert LoginAttempts.objects.get().attempts == 0


def test_hostile_text_is_only_text(keys: Keyring) -> None:
    _, text = make_key(keys, HOSTILE, allowed_models=[HOSTILE])
    make_call(key_name=HOSTILE, response_model=HOSTILE, route=HOSTILE)
    make_failure(key_name=HOSTILE, error_message=f"{HOSTILE}\u202e", error_code=HOSTILE)
    page = signed_in(text).get(HOME).content.decode()

    assert tiles(page)["calls"].startswith("Calls 2")
    assert "<script>alert(1)" not in page
    assert "\u202e" not in page


def test_it_costs_few_queries_whatever_the_time(keys: Keyring) -> None:
    _, text = make_key(keys, "mine", expires_at=timezone.now() + timedelta(days=1))
    client = signed_in(text)
    counts = []
    middle = datetime.now(UTC).replace(day=15)  # no range has a whole month, for whose sums more queries are made
    for number in range(30):
        moment = middle - timedelta(minutes=number)
        make_call(key_name="mine", response_model=f"model-{number}", started_at=moment)
    for span in ("day", "month"):
        for path in (HOME, DATA):
            with clock_at(middle), CaptureQueriesContext(connection) as queries:
                assert client.get(path, {"range": span}).status_code == 200
            counts.append(len(queries))

    # The newest failures; over a month also those before the last week, and which of its sums are complete.
    assert max(counts) <= 14
    assert re.search(
        f"valid until <time[^>]*>{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}", client.get(HOME).content.decode()
    )
