"""The list of all pages of Django's own handler: its routes, each with an object in the ledger of a running server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
from django.urls import URLResolver, get_resolver

from tests.support.servers.gateway import Gateway

SAMPLES = {
    "<str:kind>": "csv",
    "<str:part>": "request",
    "<path:_rest>": "1/1/",
    "<path:content_type_id>": "1",
    "(?P<url>.*)$": "nowhere/",
}
APP = re.compile(r"\^\(\?P<app_label>[\w|]+\)/\$")  # in the order in which the apps were registered
OBJECT = re.compile(r"admin/(\w+/\w+)/<(?:path:object_|uuid:request_)?id>")
# What is refused to everybody, or to a GET without a form: other methods, changes of what only the server writes.
REFUSED = re.compile(
    r"/admin/(r/1/1/|nowhere/|autocomplete/|usage/errors/mark/|usage/views/(save|delete)/|usage/request/add/|admin/logentry/add/)"
    r"|/admin/(proxyapi/(accesskey|apitoken|team)|usage/request|admin/logentry)/[^/]+/delete/|/my-usage/(data|sign-in|sign-out|calls/.*|keys/(make|1/\w*|1/calls/.*))|/openai"
    r"|/admin/chatproxy/alert(message)?/(add|[^/]+/delete)/"
)
# What the shipper makes otherwise, for a channel that sends nothing; and a token, whose form shows a secret.
ALERTING = """
import json
from datetime import UTC, datetime
from chatproxy.alert_models import Alert, AlertChannel, AlertMessage, AlertRule
from django.contrib.auth.models import User
from proxyapi.models import ApiToken
now = datetime.now(UTC)
rule, channel = AlertRule.objects.first(), AlertChannel.objects.create(name="walked", kind="webhook", enabled=False)
alert = Alert.objects.create(rule=rule, title="A fault", since=now, resolved_at=now)
message = AlertMessage.objects.create(
    alert=alert, channel=channel, event="opened", notice={"title": "A fault"}, made_at=now, sent_at=now)
token = ApiToken(name="walked", user=User.objects.first(), scopes=["keys:read"])
token.renew()
token.save()
made = rule, channel, alert, message, token
print(json.dumps({f"{one._meta.app_label}/{one._meta.model_name}": str(one.pk) for one in made}))
"""
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def fill(gateway: Gateway, admin: httpx2.Client) -> dict[str, str]:
    """Creates one object of each kind that has pages in the admin; returns the objects' ids by `app/model`.

    `admin` is a browser that is signed in to the admin. Two calls are made: one with a new key, which succeeds, and one
    that fails. The id of the first one is returned.
    """
    text = gateway.make_key("walker")
    answer = gateway.http.post("/openai", json=CHAT, headers={"Authorization": f"Bearer {text}"})
    failed = gateway.post("/openai", {**CHAT, "model": "gpt-nope"})
    assert (answer.status_code, failed.status_code) == (200, 404)
    gateway.row(failed)
    ids = {"usage/request": str(gateway.row(answer)["request_id"])}
    post(admin, "auth/group/add/", {"name": "walkers"})
    members = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    post(admin, "proxyapi/team/add/", {"name": "a team", "log_bodies": "inherit", **members})
    valid_from = {"valid_from_0": "2026-01-01", "valid_from_1": "00:00:00"}
    post(admin, "usage/modelprice/add/", {"model": "gpt-walk", "input": "1", "output": "2", **valid_from})
    for kind in (
        "proxyapi/accesskey",
        "proxyapi/team",
        "auth/user",
        "auth/group",
        "usage/modelprice",
        "admin/logentry",
    ):
        page = admin.get(f"/admin/{kind}/").text
        found = re.search(rf"/admin/{kind}/(\w+)/change/", page)
        assert found is not None, kind
        ids[kind] = found[1]
    alerting = gateway.manage("shell", "--no-imports", "-c", ALERTING)
    assert alerting.returncode == 0, alerting.stderr
    return {**ids, **json.loads(alerting.stdout)}


def post(admin: httpx2.Client, path: str, form: dict[str, str], *, leads_on: bool = True) -> httpx2.Response:
    """Fills in and sends the form on the admin's page `path` (below `/admin/`); returns the page that follows.

    Asserts that another page follows; with `leads_on=False`, that the page with the form is shown again.
    """
    page = admin.get(f"/admin/{path}")
    answer = admin.post(f"/admin/{path}", data={**hidden_fields(page.text), **form})
    assert answer.status_code == 200
    assert (answer.url != page.url) is leads_on, path
    return answer


def hidden_fields(page: str) -> dict[str, str]:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None
    return {"csrfmiddlewaretoken": token[1]}


def paths_of_pages(ids: dict[str, str]) -> list[str]:
    """Returns a path for every route that serves a page; `ids` are the ids of objects, as `fill` returns them."""
    return [f"/{filled_in(pattern, ids)}" for pattern in patterns_of(get_resolver())]


def patterns_of(resolver: Any, before: str = "") -> Iterator[str]:
    for one in resolver.url_patterns:
        pattern = before + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from patterns_of(one, pattern)
        else:
            yield pattern


def filled_in(pattern: str, ids: dict[str, str]) -> str:
    path = OBJECT.sub(lambda found: f"admin/{found[1]}/{ids[found[1]]}", pattern)
    path = path.replace("<uuid:request_id>", ids["usage/request"])
    path = APP.sub("proxyapi/", path)
    path = path.replace("<int:key_id>", "1")  # of nobody who is signed in
    path = path.replace("r/<path:content_type_id>/<path:object_id>", "r/1/1")
    for placeholder, sample in SAMPLES.items():
        path = path.replace(placeholder, sample)
    assert not set(path) & set("<>()^$"), f"no sample for {pattern}"
    return path
