"""Which page each of the roles that ship may open, and which form it may send. A page missing from a table fails.

The pages of Django's own handler are in `TABLE`, those of the API in `OF_THE_API`, where a login to the admin gives
nothing.

Over 300 lines, since the table has a line for each page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from chatproxy import entry
from chatproxy.alert_models import AlertMessage
from chatproxy.page_protection.signed_sessions import signed
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from proxyapi.urls import urlpatterns as api_routes
from tests.support.alerts import GONE, make_alert, make_channel
from tests.support.callers.api_tokens import make_token
from tests.support.callers.asgi import Asgi
from tests.support.callers.roles import (
    EVERYBODY,
    ROLES,
    SUPERUSER,
    browser_of,
    have_groups,
    make_groups,
    number_of_permissions,
    person,
)
from tests.support.ledger.pages import make_call, make_failure, pieces_of
from usage.models import ModelPrice

pytestmark = pytest.mark.django_db
LETTERS = dict(zip("VAKMS", EVERYBODY, strict=True))  # viewer, analyst, key manager, admin, superuser
ALL, KEYS, MASTERS, NOBODY = "VAKMS", "KMS", "MS", ""
# Page: who may look at it, who may send something to it. Whoever may not gets 403, and 404 where a page is no page.
TABLE = {
    "index": (ALL, ALL),
    "login": (ALL, ALL),
    "logout": (NOBODY, ALL),  # 405 for a GET
    "password_change": (ALL, ALL),
    "password_change_done": (ALL, NOBODY),
    "search": (ALL, ALL),
    "jsi18n": (ALL, NOBODY),
    "autocomplete": (MASTERS, NOBODY),  # of the only table that refers to another: the log's users; 405 for a POST
    "no_page_on_a_site": (NOBODY, NOBODY),
    "view_on_site": (NOBODY, NOBODY),  # nothing has a page on a site
    "catch-all": (NOBODY, NOBODY),
    "app_list proxyapi": (KEYS, KEYS),
    "app_list usage": (ALL, ALL),
    "app_list admin": (MASTERS, MASTERS),
    "app_list auth": (MASTERS, MASTERS),
    "dashboard_data": (ALL, ALL),
    "usage_report": (ALL, ALL),
    "export_usage": (ALL, ALL),
    "errors": (ALL, ALL),
    "names": (ALL, ALL),
    "save_view": (NOBODY, ALL),  # 405 for a GET
    "delete_view": (NOBODY, ALL),
    "mark_error": (NOBODY, "AMS"),  # 405 for a GET
    "export_requests": (ALL, ALL),
    "export_errors": (ALL, ALL),
    "in_order": (ALL, ALL),
    "download_body": ("AMS", "AMS"),
    "app_list chatproxy": (ALL, ALL),
    "chatproxy_alert_changelist": (ALL, ALL),
    "chatproxy_alert_add": (NOBODY, NOBODY),
    "chatproxy_alert_change": (ALL, NOBODY),
    "chatproxy_alert_history": (ALL, ALL),
    "chatproxy_alert_delete": (NOBODY, NOBODY),
    "chatproxy_alert (short)": (ALL, ALL),
    "chatproxy_alertmessage_changelist": (MASTERS, MASTERS),
    "chatproxy_alertmessage_add": (NOBODY, NOBODY),
    "chatproxy_alertmessage_change": (MASTERS, NOBODY),
    "chatproxy_alertmessage_history": (MASTERS, MASTERS),
    "chatproxy_alertmessage_delete": (NOBODY, NOBODY),
    "chatproxy_alertmessage (short)": (ALL, ALL),
    "chatproxy_alertrule_changelist": (MASTERS, MASTERS),
    "chatproxy_alertrule_add": (MASTERS, MASTERS),
    "chatproxy_alertrule_change": (MASTERS, MASTERS),
    "chatproxy_alertrule_history": (MASTERS, MASTERS),
    "chatproxy_alertrule_delete": (MASTERS, MASTERS),
    "chatproxy_alertrule (short)": (ALL, ALL),
    "chatproxy_alertchannel_changelist": (MASTERS, MASTERS),
    "chatproxy_alertchannel_add": (MASTERS, MASTERS),
    "chatproxy_alertchannel_change": (MASTERS, MASTERS),
    "chatproxy_alertchannel_history": (MASTERS, MASTERS),
    "chatproxy_alertchannel_delete": (MASTERS, MASTERS),
    "chatproxy_alertchannel_send_test_message": (MASTERS, MASTERS),
    "chatproxy_alertchannel (short)": (ALL, ALL),
    "proxyapi_accesskey_changelist": (KEYS, KEYS),
    "proxyapi_accesskey_add": (KEYS, KEYS),
    "proxyapi_accesskey_change": (KEYS, KEYS),
    "proxyapi_accesskey_history": (KEYS, KEYS),
    "proxyapi_accesskey_delete": (NOBODY, NOBODY),
    "proxyapi_accesskey_usage": (KEYS, KEYS),
    "proxyapi_accesskey_usage_data": (KEYS, KEYS),
    "proxyapi_accesskey_rotate": (KEYS, KEYS),
    "proxyapi_accesskey_revoke": (KEYS, KEYS),
    "proxyapi_accesskey (short)": (ALL, ALL),  # leads to the page of changes, which looks for itself
    "proxyapi_team_changelist": (KEYS, KEYS),
    "proxyapi_team_add": (KEYS, KEYS),
    "proxyapi_team_change": (KEYS, KEYS),
    "proxyapi_team_history": (KEYS, KEYS),
    "proxyapi_team_delete": (NOBODY, NOBODY),
    "proxyapi_team (short)": (ALL, ALL),
    "proxyapi_apitoken_changelist": (MASTERS, MASTERS),
    "proxyapi_apitoken_add": (MASTERS, MASTERS),
    "proxyapi_apitoken_change": (MASTERS, MASTERS),
    "proxyapi_apitoken_history": (MASTERS, MASTERS),
    "proxyapi_apitoken_delete": (NOBODY, NOBODY),
    "proxyapi_apitoken_revoke": (MASTERS, MASTERS),
    "proxyapi_apitoken (short)": (ALL, ALL),
    "usage_request_changelist": (ALL, ALL),
    "usage_request_add": (NOBODY, NOBODY),
    "usage_request_change": (ALL, ALL),
    "usage_request_history": (ALL, ALL),
    "usage_request_delete": (NOBODY, NOBODY),
    "usage_request (short)": (ALL, ALL),
    "needed_prices": (ALL, ALL),
    "usage_modelprice_changelist": (MASTERS, MASTERS),
    "usage_modelprice_add": (MASTERS, MASTERS),
    "usage_modelprice_change": (MASTERS, MASTERS),
    "usage_modelprice_history": (MASTERS, MASTERS),
    "usage_modelprice_delete": (MASTERS, MASTERS),
    "usage_modelprice (short)": (ALL, ALL),
    "admin_logentry_changelist": (MASTERS, MASTERS),
    "admin_logentry_add": (NOBODY, NOBODY),
    "admin_logentry_change": (MASTERS, NOBODY),
    "admin_logentry_history": (MASTERS, MASTERS),
    "admin_logentry_delete": (NOBODY, NOBODY),
    "admin_logentry (short)": (ALL, ALL),
    "auth_user_changelist": (MASTERS, MASTERS),
    "auth_user_add": (MASTERS, MASTERS),
    "auth_user_change": (MASTERS, MASTERS),
    "auth_user_history": (MASTERS, MASTERS),
    "auth_user_delete": (MASTERS, MASTERS),
    "auth_user_password_change": (MASTERS, MASTERS),
    "auth_user (short)": (ALL, ALL),
    "auth_group_changelist": (MASTERS, MASTERS),
    "auth_group_add": (MASTERS, MASTERS),
    "auth_group_change": (MASTERS, MASTERS),
    "auth_group_history": (MASTERS, MASTERS),
    "auth_group_delete": (MASTERS, MASTERS),
    "auth_group (short)": (ALL, ALL),
    "my-usage show": (ALL, NOBODY),
    "my-usage data": (NOBODY, NOBODY),  # 401 without a key
    "my-usage sign_in": (NOBODY, NOBODY),  # 403 for a wrong key
    "my-usage sign_out": (NOBODY, ALL),
    "my-usage make": (NOBODY, NOBODY),  # 400: these people are in no team that lets them make keys
    "my-usage key": (NOBODY, NOBODY),  # 404: the key is somebody else's
    "my-usage key_data": (NOBODY, NOBODY),
    "my-usage rotate": (NOBODY, NOBODY),
    "my-usage revoke": (NOBODY, NOBODY),
    "my-usage set_budget": (NOBODY, NOBODY),
    "my-usage calls": (ALL, NOBODY),  # leads to the form that asks for a key
    "my-usage export": (ALL, NOBODY),
    "my-usage call": (ALL, NOBODY),
    "my-usage key_calls": (NOBODY, NOBODY),
    "my-usage key_export": (NOBODY, NOBODY),
    "my-usage key_call": (NOBODY, NOBODY),
}
OF_PEOPLE = tuple(page for page in TABLE if page.startswith("my-usage "))
SIGNED_IN = signed("a" * 24)  # the cookie of a session; no route of the API may ask whose
OPEN_TO_STRANGERS = {"login", "jsi18n", "my-usage show", "my-usage sign_out"}
REFUSALS = (400, 401, 403, 404, 405)
# Each route of the API, with the status of a GET without a key, whoever is signed in to the admin.
OPEN, KEY, TOKEN, OTHER_METHOD = 200, 401, 403, 405
OF_THE_API = {
    "^v1/(?P<path>(?s:.*))$": KEY,
    "": OPEN,
    "healthz": OPEN,
    "readyz": 500,  # in a process of tests, which has no journal; it is open like the ones above
    "docs": OPEN,
    "openapi.json": OPEN,
    "openai": OTHER_METHOD,
    "openai2": OTHER_METHOD,
    "openai2/compact": OTHER_METHOD,
    "openai2/input_tokens": OTHER_METHOD,
    "^openai2/(?P<response_id>[A-Za-z0-9_-]{1,256})$": TOKEN,
    "^openai2/(?P<response_id>[A-Za-z0-9_-]{1,256})/cancel$": OTHER_METHOD,
    "^openai2/(?P<response_id>[A-Za-z0-9_-]{1,256})/input_items$": TOKEN,
    "chatgpt": OTHER_METHOD,
    "openai/audio/transcriptions": OTHER_METHOD,
    "embeddings": OTHER_METHOD,
    "health": TOKEN,
    "health2": TOKEN,
    "log": TOKEN,
    "log_errors": TOKEN,
    "metrics": TOKEN,
    "usage": TOKEN,
    "debug/runtime": TOKEN,
    "api/keys": KEY,
    "^api/keys/(?P<name>.{1,200})/rotate$": OTHER_METHOD,
    "^api/keys/(?P<name>.{1,200})/revoke$": OTHER_METHOD,
    "^api/keys/(?P<name>.{1,200})$": KEY,
    "api/teams": KEY,
    "^api/teams/(?P<name>.{1,200})/archive$": OTHER_METHOD,
    "^api/teams/(?P<name>.{1,200})/restore$": OTHER_METHOD,
    "^api/teams/(?P<name>.{1,200})$": KEY,
    "^(?P<path>(?s:.*))$": 404,
}


def patterns(found: list[Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name of each page of Django's handler, and its path with the parameters in it."""
    for one in found:
        whole = path + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, whole)
        else:
            assert isinstance(one, URLPattern)
            yield one.name or "" if whole.startswith("admin/") else f"{whole.split('/')[0]} {one.name}", whole


def pages(ids: dict[str, Any]) -> dict[str, str]:
    """Returns the address of each page, with `ids` of a row of each table."""
    found: dict[str, str] = {}
    for name, path in patterns(get_resolver().url_patterns):
        table = "_".join(path.split("/")[1:3])
        if name == "app_list":
            found |= {
                f"app_list {label}": f"/admin/{label}/" for label in ("chatproxy", "proxyapi", "usage", "admin", "auth")
            }
            continue
        if path.endswith("(?P<url>.*)$"):
            name, path = "catch-all", "admin/nowhere/"
        row = ids.get(table, ids["auth_user"])
        for parameter in re.findall(r"<[^>]*>", path):
            samples = {"<str:kind>": "csv", "<str:part>": "request", "<uuid:request_id>": str(ids["usage_request"])}
            value = samples.get(parameter, str(row))
            path = path.replace(parameter, value)
        query = "?app_label=admin&model_name=logentry&field_name=user" if name == "autocomplete" else ""
        found[name or f"{table} (short)"] = f"/{path}{query}"
    return found


@pytest.fixture
def ids() -> dict[str, Any]:
    """Makes a row in each table, one that every role with rights on the table may change."""
    have_groups()
    user = User.objects.create_user("somebody")
    key, _ = AccessKey.objects.issue("team a")
    price = ModelPrice.objects.create(model="gpt-9", valid_from=datetime.now(UTC))
    entry = LogEntry.objects.create(
        user=person(SUPERUSER, "whoever logs"), content_type=ContentType.objects.get_for_model(AccessKey),
        object_id=str(key.pk), object_repr="team a", action_flag=CHANGE,
    )  # fmt: skip
    group = Group.objects.create(name="without rights")
    alert = make_alert()
    channel = make_channel(GONE)
    message = AlertMessage.objects.create(
        alert=alert, channel=channel, event="opened", notice={"title": "A fault"}, made_at=alert.since
    )
    return {
        "proxyapi_accesskey": key.pk, "usage_request": make_call(request_body="said"), "usage_modelprice": price.pk,
        "proxyapi_team": Team.objects.found("a team").pk, "proxyapi_apitoken": make_token(entry.user)[0].pk,
        "chatproxy_alert": alert.pk, "chatproxy_alertmessage": message.pk, "chatproxy_alertrule": alert.rule.pk,
        "chatproxy_alertchannel": channel.pk, "admin_logentry": entry.pk, "auth_user": user.pk, "auth_group": group.pk,
    }  # fmt: skip


def test_every_page_of_the_admin_is_in_the_table(ids: dict[str, Any]) -> None:
    assert set(pages(ids)) == set(TABLE)


def test_every_route_of_the_api_is_in_the_table() -> None:
    assert {str(route.pattern) for route in api_routes} == set(OF_THE_API)


@pytest.mark.parametrize("route", OF_THE_API)
async def test_a_login_to_the_admin_is_no_key(route: str) -> None:
    path = re.sub(r"\(\?P<(response_id|name)>[^)]*\)", "resp_1", route.strip("^$")).replace(
        "(?P<path>(?s:.*))", "models"
    )
    cookies = ("", f"chatproxy_session={SIGNED_IN}")
    found = [Asgi("GET", f"/{path}", headers={"cookie": cookie, "transfer-encoding": ""}) for cookie in cookies]
    statuses = [await request.ask(entry.call_handler) for request in found]

    assert statuses == [OF_THE_API[route]] * 2


@pytest.mark.parametrize("page", TABLE)
def test_who_may_look_and_who_may_send(ids: dict[str, Any], page: str) -> None:
    path = pages(ids)[page]
    for number, method in enumerate(("get", "post")):
        found = ""
        for letter, role in LETTERS.items():
            answer = getattr(browser_of(person(role, f"{letter} {method}")), method)(path)
            assert answer.status_code in (200, 302, *REFUSALS), (role, method)
            found += "" if answer.status_code in REFUSALS else letter
        assert found == TABLE[page][number], method


@pytest.mark.parametrize("page", [page for page in TABLE if page not in OPEN_TO_STRANGERS])
def test_who_is_not_of_the_staff_sees_nothing(ids: dict[str, Any], page: str) -> None:
    path = pages(ids)[page]
    for client in (Client(), browser_of(User.objects.create_user("not on the staff"))):
        for answer in (client.get(path), client.post(path)):
            leads = answer.headers.get("Location", "")
            assert (
                answer.status_code in (401, 405) or leads.startswith("/admin/login/") or page in ("logout", *OF_PEOPLE)
            ), path


OF_THE_LEDGER = ("usage_", "export", "errors", "needed", "dashboard", "names", "app_list")


def test_somebody_on_the_staff_without_a_role_sees_nothing(ids: dict[str, Any]) -> None:
    client = browser_of(User.objects.create_user("no role", is_staff=True))
    for page, (who_looks, _) in TABLE.items():
        if who_looks != ALL or page.startswith(
            ("usage_", "export", "errors", "needed", "dashboard", "names", "app_list")
        ):
            if page.endswith("(short)"):
                continue
            answer = client.get(pages(ids)[page])
            assert answer.status_code in REFUSALS, page


# What is said in a call

WORDS = ("words-of-the-prompt", "words-of-the-answer", "words-of-an-error")
OF_ONE_ROW = ("_add", "_delete", "_history", "(short)")  # pages that read neither a search nor a range


def text_of(answer: Any) -> str:
    return b"".join(pieces_of(answer) if answer.streaming else [answer.content]).decode()


def fill() -> str:
    body = {"request_body": f'{{"model": "gpt-4o", "input": "{WORDS[0]}"}}', "response_body": WORDS[1]}
    return make_failure(1, error_message=f"you said {WORDS[2]}", key_name="team a", **body)


@pytest.mark.parametrize("role", EVERYBODY)
def test_prompts_and_answers_are_for_those_who_may_see_bodies(ids: dict[str, Any], role: str) -> None:
    ids["usage_request"] = fill()
    client = browser_of(person(role))
    seen = set()
    for page, path in pages(ids).items():
        if page == "logout":
            continue
        for query in ("", *(() if page.endswith(OF_ONE_ROW) else ("q=gpt", "range=hour"))):
            answer = client.get(f"{path}{'&' if '?' in path else '?'}{query}")
            seen |= {words for words in WORDS if words in text_of(answer)}

    assert seen == (set(WORDS) if role in ("analyst", "admin", SUPERUSER) else set())


@pytest.mark.parametrize("role", EVERYBODY)
@pytest.mark.parametrize("path", ["/admin/usage/request/", "/admin/usage/request/export.json"])
def test_nobody_searches_what_he_may_not_see(ids: dict[str, Any], role: str, path: str) -> None:
    failure = fill()
    client = browser_of(person(role))
    found = {}
    for words in (*WORDS, "upstream_timeout"):
        answer = client.get(path, {"q": words})
        found[words] = failure in text_of(answer)

    sees_bodies = role in ("analyst", "admin", SUPERUSER)
    assert found == {WORDS[0]: False, WORDS[1]: False, WORDS[2]: sees_bodies, "upstream_timeout": True}


# The groups


def test_the_groups_are_made_and_hold_what_their_role_says() -> None:
    make_groups()
    held = {group.name: group.permissions.count() for group in Group.objects.filter(name__in=ROLES)}

    assert held == {name: number_of_permissions(name) for name in ROLES}


def test_what_an_operator_has_changed_in_a_group_stays(db: None) -> None:
    make_groups()
    group = Group.objects.get(name="viewer")
    group.permissions.set(Permission.objects.filter(codename="view_accesskey"))
    make_groups()

    assert [permission.codename for permission in group.permissions.all()] == ["view_accesskey"]


def test_the_groups_can_be_made_before_django_makes_permissions(db: None) -> None:
    make_groups()
    Group.objects.filter(name__in=ROLES).delete()
    names = set(Permission.objects.values_list("content_type__app_label", "codename"))
    Permission.objects.all().delete()
    make_groups()

    assert set(Permission.objects.values_list("content_type__app_label", "codename")) <= names
    assert Group.objects.get(name="admin").permissions.filter(codename="change_user").exists()


@pytest.mark.parametrize("row", ["0", "x", "-1", "9" * 30, "%00", "%ED%A0%80", "1%2F2", "a_2Fb", "00000000"])
def test_an_id_that_is_none_is_not_our_fault(ids: dict[str, Any], row: str) -> None:
    client = browser_of(person(SUPERUSER))
    for page, path in pages(dict.fromkeys(ids, row)).items():
        if row in path:
            for answer in (client.get(path), client.post(path)):
                # 301: the admin adds a slash to a path that it does not know, and then does not find it
                assert answer.status_code in (200, 301, 302, 400, 403, 404, 405), page
