"""Each page of the admin makes few queries, and as many for a full table as for an empty one."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from django.contrib import admin as django_admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from chatproxy.alert_models import AlertAttempt, AlertMessage, AlertRule
from proxyapi.models import AccessKey, ApiToken, ApiTokenScope
from proxyapi.team_models import Team
from tests.support.alerts import GONE, make_alert, make_channel
from tests.support.ledger.pages import make_call, make_failure, page_of, pieces_of
from tests.support.moved_clock import PutClock
from usage.admin_pages import navigation
from usage.models import ModelPrice

pytestmark = pytest.mark.django_db
LISTS = {
    "/admin/": 12,
    "/admin/usage/dashboard.json": 10,
    "/admin/usage/request/": 13,
    "/admin/usage/request/?q=nobody": 15,
    "/admin/usage/request/?text=nothing": 11,
    # Days of a month that goes on are compared with a part of a month, in which it is looked for further calls.
    "/admin/usage/report/": 13,
    "/admin/usage/report/?by=tag:project&then=end_user": 14,
    "/admin/usage/report/export.csv": 9,
    "/admin/usage/errors/": 5,
    "/admin/usage/needed-prices/": 5,
    "/admin/proxyapi/accesskey/": 8,
    "/admin/proxyapi/team/": 6,
    "/admin/proxyapi/apitoken/": 6,
    "/admin/usage/modelprice/": 5,
    "/admin/chatproxy/alert/": 6,
    "/admin/chatproxy/alertmessage/": 6,
    "/admin/chatproxy/alertrule/": 6,
    "/admin/chatproxy/alertchannel/": 6,
    "/admin/auth/user/": 6,
    "/admin/auth/group/": 5,
    "/admin/admin/logentry/": 7,
    "/admin/usage/request/export.csv": 8,
    "/admin/usage/request/export.json": 6,
    "/admin/usage/errors/export.csv": 5,
    "/admin/usage/errors/export.json": 5,
}
# The form of a key reads the custom prices, for its list of models.
OF_A_KEY = {"change/": 8, "usage/": 12, "usage.json": 12, "rotate/": 4, "revoke/": 4}
# In the first hour of a day (UTC) the last 24 hours have a whole day in them, which is read by itself.
OF_A_KEY_IN_THE_FIRST_HOUR = {**OF_A_KEY, "usage/": 13, "usage.json": 13}
MANY = 30
WITH_ALERTS = ("/admin/", "/admin/usage/dashboard.json")  # a query more, for the line of open alerts


def fill(first: int, last: int) -> None:
    """Writes this many rows into each table, each with a name of its own."""
    user = User.objects.get(username="root")
    for number in range(first, last):
        name = f"number {number}"
        AccessKey.objects.issue(name, budget_day=1, owner=name, team=Team.objects.found(name))
        make_call(number, key_name=name, response_model=name)
        make_failure(number, key_name=name, error_code=name)
        ModelPrice.objects.create(model=name, valid_from=datetime.now(UTC) - timedelta(days=number))
        Group.objects.create(name=name)
        alert = make_alert(name, subject=name, rule=AlertRule.objects.create(kind="budget", threshold=1000 + number))
        message = AlertMessage.objects.create(
            alert=alert, channel=make_channel(GONE, name=name), event="opened", notice={"title": name},
            made_at=alert.since,
        )  # fmt: skip
        AlertAttempt.objects.create(message=message, at=alert.since, was_sent=True, result="status 200")
        token = ApiToken(name=name, user=User.objects.create_user(name), scopes=[ApiTokenScope.KEYS_READ])
        token.renew()
        token.save()
        LogEntry.objects.create(
            user=user, content_type=ContentType.objects.get_for_model(AccessKey), object_id="1",
            object_repr=name, action_flag=CHANGE,
        )  # fmt: skip


def count(admin: Client, path: str) -> int:
    admin.get(path)  # content types are remembered by the process
    with CaptureQueriesContext(connection) as queries:
        answer = admin.get(path)
        assert answer.status_code == 200
        if answer.streaming:
            assert pieces_of(answer)
    return len(queries)


def test_it_works(admin: Client) -> None:
    fill(0, 1)
    of_few = {path: count(admin, path) for path in LISTS}
    fill(1, MANY)
    of_many = {path: count(admin, path) for path in LISTS}

    assert of_many == of_few
    allowed = {path: number + (path in WITH_ALERTS) for path, number in LISTS.items()}
    assert {path: number for path, number in of_many.items() if number > allowed[path]} == {}


@pytest.mark.parametrize(
    ("clock", "allowed"), [(time(12, 30), OF_A_KEY), (time(0, 30), OF_A_KEY_IN_THE_FIRST_HOUR)], ids=str
)
def test_what_is_shown_of_one(admin: Client, put_clock: PutClock, clock: time, allowed: dict[str, int]) -> None:
    now = datetime.now(UTC)
    put_clock(datetime.combine(now, clock, UTC) - now)
    fill(0, MANY)
    key = AccessKey.objects.get(name="number 3")
    found = {path: count(admin, f"/admin/proxyapi/accesskey/{key.pk}/{path}") for path in allowed}

    assert {path: number for path, number in found.items() if number > allowed[path]} == {}
    assert count(admin, page_of(make_call())) <= 6


def test_no_list_is_left_out(admin: Client) -> None:
    listed = {path.partition("?")[0] for path in LISTS}
    models = [model._meta for model in django_admin.site._registry]

    assert {reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist") for meta in models} <= listed
    assert {item["link"] for section in navigation.sections(None) for item in section["items"]} <= listed  # type: ignore[arg-type]
