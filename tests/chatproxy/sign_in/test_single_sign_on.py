"""People sign in at a real OpenID provider, get the roles and teams of their claims, and nobody else gets in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ADMIN_PASSWORD, PATIENCE, Gateway, run_gateway
from tests.support.servers.openid_provider import OpenIDProvider, run_openid_provider, sign_in_at, token_in

ROLES = {
    "OIDC_ROLES_CLAIM": "groups", "OIDC_ROLES": "llm-admins=admin,staff=viewer", "OIDC_TEAMS_CLAIM": "teams",
}  # fmt: skip
MAKING_TEAMS = """
from proxyapi.team_models import Team
for name in ("research", "search"):
    Team.objects.found(name)
"""
ACCOUNT = """
import json, sys
from django.contrib.auth.models import User
user = User.objects.get(email=sys.stdin.read())
print(json.dumps({
    "name": user.username, "staff": user.is_staff, "superuser": user.is_superuser,
    "password": user.has_usable_password(),
    "groups": sorted(user.groups.values_list("name", flat=True)),
    "teams": sorted(user.memberships.values_list("team__name", "role")),
}))
"""
EXPIRY = """
import sys
from datetime import timedelta
from django.utils import timezone
from chatproxy.page_protection.signed_sessions import SessionStore
key, hours = sys.stdin.read().split()
later = timezone.now() + timedelta(hours=int(hours))
store = SessionStore(key)
print((store.get_expiry_date(modification=later) - timezone.now()).total_seconds())
"""
ASKING = """
from unittest import mock
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from chatproxy.sign_in.provider import Issuer
answer = mock.PropertyMock(side_effect=ValueError)
with mock.patch.object(OpenIDConnectOAuth2Adapter, "openid_config", answer):
    for _ in range(3):
        try:
            Issuer(None, "sso").openid_config
        except Exception as error:
            print(type(error).__name__)
print(answer.call_count)
"""
NewBrowser = Callable[[], httpx2.Client]


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIDProvider]:
    with run_openid_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(
    provider: OpenIDProvider, _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    settings = {**provider.settings, **ROLES, "ADMIN_PASSWORD": ADMIN_PASSWORD}
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, tmp_path_factory.mktemp("sign_in"), **settings) as gateway,
    ):
        assert run(gateway, MAKING_TEAMS) == ""
        yield gateway


@pytest.fixture
def new_browser(gateway: Gateway) -> Iterator[NewBrowser]:
    opened: list[httpx2.Client] = []

    def make() -> httpx2.Client:
        opened.append(httpx2.Client(base_url=gateway.url, timeout=PATIENCE, follow_redirects=True))
        return opened[-1]

    yield make
    for browser in opened:
        browser.close()


def run(gateway: Gateway, script: str, said: str = "") -> str:
    made = gateway.manage("shell", "--no-imports", "-c", script, said=said)
    assert made.returncode == 0, made.stderr
    return made.stdout


def seconds_left(gateway: Gateway, browser: httpx2.Client, changed_in_hours: int = 0) -> float:
    """How long the session of a browser lasts, from now, if it is changed in so many hours."""
    return float(run(gateway, EXPIRY, f"{browser.cookies['chatproxy_session']} {changed_in_hours}"))


def account(gateway: Gateway, email: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(gateway, ACCOUNT, email))
    return found


def test_it_works(provider: OpenIDProvider, gateway: Gateway, new_browser: NewBrowser) -> None:
    provider.add_person("ada", groups=["staff", "unknown"], teams=["research:lead", "search", "unknown"])
    browser = new_browser()
    page = sign_in_at(browser, "ada", "/admin/usage/request/")

    assert (page.status_code, page.url.path) == (200, "/admin/usage/request/")
    assert account(gateway, "ada@example.com") == {
        "name": "ada@example.com", "staff": True, "superuser": False, "password": False, "groups": ["viewer"],
        "teams": [["research", "lead"], ["search", "member"]],
    }  # fmt: skip
    assert browser.get("/admin/auth/user/").status_code == 403  # a viewer's rights, no more

    # Twelve hours after the sign-in it ends, however the session is used.
    for hours in (0, 10):
        assert 11 * 3600 < seconds_left(gateway, browser, hours) <= 12 * 3600

    # The next sign-in brings what has changed at the issuer.
    provider.add_person("ada", groups=[], teams=["search:lead"])
    page = sign_in_at(new_browser(), "ada")
    assert page.url.path == "/my-usage/"
    found = account(gateway, "ada@example.com")
    assert (found["staff"], found["groups"], found["teams"]) == (False, [], [["search", "lead"]])
    assert browser.get("/admin/usage/request/").url.path == "/my-usage/"  # all that is left to her
    log = gateway.sign_in().get("/admin/admin/logentry/").text
    assert "groups: removed “viewer”; staff status from yes to no" in log


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
        ({"email": "eve@example.org"}, "your domain"),
        ({"email": ""}, "not send an e-mail address"),
        ({"groups": {"admin": True}}, "no list of texts"),
    ],
)  # fmt: skip
def test_who_is_refused_and_why(
    provider: OpenIDProvider, gateway: Gateway, new_browser: NewBrowser, claims: dict[str, object], words: str
) -> None:
    provider.add_person("eve", **claims)
    browser = new_browser()
    page = sign_in_at(browser, "eve", "/admin/")

    assert page.status_code == 403
    assert words in page.text
    assert browser.get("/admin/").url.path == "/admin/login/"
    with psycopg.connect(gateway.variables["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM auth_user WHERE username LIKE 'eve%'").fetchall() == [(0,)]


def test_an_account_is_not_taken_over(provider: OpenIDProvider, gateway: Gateway, new_browser: NewBrowser) -> None:
    """Neither a local one nor one of single sign-on, whatever the issuer says about the e-mail address."""
    run(gateway, "from django.contrib.auth.models import User; User.objects.create_user('bob', 'Bob@example.com')")
    provider.add_person("bob")
    assert "another account" in sign_in_at(new_browser(), "bob").text

    provider.add_person("carol")
    assert sign_in_at(new_browser(), "carol").status_code == 200
    provider.add_person("mallory", email="carol@example.com")
    page = sign_in_at(new_browser(), "mallory")
    assert (page.status_code, "another account" in page.text) == (403, True)

    # What the page advises helps: the address is removed from the other account.
    run(
        gateway,
        "from django.contrib.auth.models import User;"
        "User.objects.filter(email='carol@example.com').update(email='', username='carol before')",
    )
    assert sign_in_at(new_browser(), "mallory").status_code == 200
    assert account(gateway, "carol@example.com")["name"] == "carol@example.com"


def test_nobody_chooses_a_user_name(provider: OpenIDProvider, gateway: Gateway, new_browser: NewBrowser) -> None:
    run(gateway, "from django.contrib.auth.models import User; User.objects.create_user('Heidi@example.com')")
    chosen = {"given_name": "admin2", "preferred_username": "admin2", "name": "admin2"}
    for subject, email, words in (
        ("heidi", "heidi@example.com", "another account with the user name"),
        ("ivan", "i'van@example.com", "cannot be a user name"),
    ):
        provider.add_person(subject, email=email, **chosen)
        page = sign_in_at(new_browser(), subject)
        assert (page.status_code, words in page.text) == (403, True), page.text[-500:]
    found = run(gateway, "from django.contrib.auth.models import User; print(User.objects.filter(username='admin2'))")
    assert found == "<QuerySet []>\n"


def test_an_account_that_is_off_does_not_get_in(
    provider: OpenIDProvider, gateway: Gateway, new_browser: NewBrowser
) -> None:
    provider.add_person("dave")
    sign_in_at(new_browser(), "dave")
    run(
        gateway,
        "from django.contrib.auth.models import User;"
        "User.objects.filter(email='dave@example.com').update(is_active=False)",
    )
    page = sign_in_at(new_browser(), "dave")

    assert page.status_code == 403
    assert "not active" in page.text


@pytest.mark.parametrize(
    "wanted", ["https://evil.example.org/", "//evil.example.org", "javascript:alert(1)", "\\\\evil.org"]
)
def test_nobody_is_led_to_another_host(provider: OpenIDProvider, new_browser: NewBrowser, wanted: str) -> None:
    provider.add_person("frank")
    page = sign_in_at(new_browser(), "frank", wanted)
    assert (page.status_code, page.url.path) == (200, "/my-usage/")


def test_a_link_cannot_change_what_the_issuer_is_asked(provider: OpenIDProvider, new_browser: NewBrowser) -> None:
    browser = new_browser()
    form = {"csrfmiddlewaretoken": token_in(browser.get("/admin/login/"))}
    page = browser.post(
        "/admin/accounts/sso/login/?scope=offline_access&process=connect&auth_params=prompt%3Dnone", data=form
    )

    assert page.status_code == 200
    assert "offline_access" not in page.text
    assert "prompt" not in page.text
    assert "code_challenge_method=S256" in page.text
    assert browser.get("/admin/accounts/sso/login/").status_code == 405


def test_an_answer_that_nobody_has_asked_for_signs_nobody_in(new_browser: NewBrowser) -> None:
    browser = new_browser()
    for query in ("", "?code=1", "?code=1&state=2", "?error=access_denied", "?error=x&state=2"):
        page = browser.get(f"/admin/accounts/sso/callback/{query}")
        assert page.status_code in (401, 403), query
        assert "not completed" in page.text
    assert browser.get("/admin/accounts/other/callback/").url.path == "/admin/login/"
    assert "sessionid" not in browser.cookies


def test_an_answer_counts_once(provider: OpenIDProvider, new_browser: NewBrowser) -> None:
    provider.add_person("grace")
    browser = new_browser()
    page = sign_in_at(browser, "grace")
    (callback,) = [str(one.url) for one in page.history if "/callback/" in one.url.path]
    assert parse_qs(urlsplit(callback).query).keys() >= {"code", "state"}
    assert new_browser().get(callback).status_code in (401, 403)
    assert browser.get(callback).status_code in (401, 403)


@pytest.mark.parametrize(
    "page", ["signup/", "email/", "password/reset/", "password/change/", "social/connections/", "social/signup/"]
)
def test_strangers_cannot_register(new_browser: NewBrowser, page: str) -> None:
    assert new_browser().get(f"/admin/accounts/{page}").url.path == "/admin/login/"  # as every path that leads nowhere


def test_a_stranger_leaves_a_session_for_ten_minutes(gateway: Gateway, new_browser: NewBrowser) -> None:
    browser = new_browser()
    form = {"csrfmiddlewaretoken": token_in(browser.get("/admin/login/"))}
    assert browser.post("/admin/accounts/sso/login/", data=form).status_code == 200
    assert 0 < seconds_left(gateway, browser) <= 600

    # Who then signs in with a password instead has a session as long as everybody's.
    page = browser.get("/admin/login/")
    form = {"csrfmiddlewaretoken": token_in(page), "username": "admin", "password": ADMIN_PASSWORD}
    assert browser.post("/admin/login/", data=form).url.path == "/admin/"
    assert seconds_left(gateway, browser) > 24 * 3600


def test_people_with_a_password_still_sign_in(gateway: Gateway) -> None:
    assert "single sign-on" in gateway.http.get("/admin/login/").text
    assert gateway.sign_in().get("/admin/auth/user/").status_code == 200


def test_an_issuer_that_does_not_answer_is_not_asked_again_at_once(gateway: Gateway) -> None:
    assert run(gateway, ASKING).split() == ["ValueError", "OAuth2Error", "OAuth2Error", "1"]


def test_the_doctor_asks_the_issuer(provider: OpenIDProvider, gateway: Gateway) -> None:
    said = gateway.manage("doctor").stdout
    assert "single sign-on" in said
    (line,) = [line for line in said.splitlines() if "single sign-on" in line]
    assert "ok" in line.lower()
