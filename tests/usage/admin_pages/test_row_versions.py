"""A form that was opened before somebody else changed its row changes nothing, on all pages of the admin."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, connections, transaction
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from chatproxy.alert_models import AlertChannel, AlertKind, AlertRule, ChannelKind
from proxyapi.models import AccessKey, ApiToken
from proxyapi.team_models import Team, TeamMember, TeamRole
from tests.support.callers.roles import SUPERUSER, browser_of, person
from tests.support.polling import wait_until
from usage.admin_pages.admin_base import STALE, VERSION, GuardedAdmin, ReadOnlyAdmin
from usage.models import ModelPrice

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    return browser_of(person(SUPERUSER))


def make_team() -> Team:
    team = Team.objects.found("a")
    TeamMember.objects.create(team=team, user=User.objects.create_user("lead"), role=TeamRole.LEAD)
    return team


# Of each table: a row, and a change of it by somebody else.
ROWS: dict[str, tuple[Callable[[], Model], Callable[[Any], object]]] = {
    "key": (lambda: AccessKey.objects.issue("a")[0], lambda key: type(key).objects.update(active=False)),
    "revoked key": (lambda: AccessKey.objects.issue("a")[0], lambda key: key.revoke()),
    "team": (lambda: Team.objects.found("a"), lambda team: type(team).objects.update(budget_month=5)),
    "role in a team": (make_team, lambda team: team.memberships.update(role=TeamRole.MEMBER)),
    "member of a team": (make_team, lambda team: team.memberships.all().delete()),
    "user": (
        lambda: User.objects.create_user("a"),
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    ),
    "group of a user": (
        lambda: User.objects.create_user("a"),
        lambda user: user.groups.add(Group.objects.create(name="new")),
    ),
    "group": (lambda: Group.objects.create(name="a"), lambda group: group.permissions.add(Permission.objects.all()[0])),
    "rule": (
        lambda: AlertRule.objects.create(kind=AlertKind.BUDGET, threshold=7),
        lambda rule: AlertRule.objects.filter(pk=rule.pk).update(enabled=False),
    ),
    "channel": (
        lambda: AlertChannel.objects.create(name="a", kind=ChannelKind.SLACK),
        lambda channel: AlertChannel.objects.update(enabled=False),
    ),
    "rules of a channel": (
        lambda: AlertChannel.objects.create(name="a", kind=ChannelKind.SLACK),
        lambda channel: channel.rules.add(AlertRule.objects.create(kind=AlertKind.BUDGET, threshold=7)),
    ),
    "price": (
        lambda: ModelPrice.objects.create(model="a", valid_from=datetime(2026, 1, 1, tzinfo=UTC), input=1),
        lambda price: ModelPrice.objects.update(input=2),
    ),
}  # fmt: skip


def page_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def version_on(client: Client, row: Model) -> str:
    version: str = client.get(page_of(row)).context["row_version"]
    return version


@pytest.mark.parametrize("name", ROWS)
def test_a_form_of_before_changes_nothing(admin: Client, name: str) -> None:
    make, change = ROWS[name]
    row = make()
    before = version_on(admin, row)
    assert version_on(admin, row) == before
    change(row)
    after = version_on(admin, row)
    answer = admin.post(page_of(row), {VERSION: before})

    assert answer.status_code == 200
    assert STALE in answer.content.decode()
    assert f'name="{VERSION}" value="{before}"' in answer.content.decode()  # sent again, it is refused again
    assert version_on(admin, row) == after
    assert STALE not in admin.post(page_of(row), {VERSION: after}).content.decode()


def test_a_form_of_the_present_row_is_saved(admin: Client) -> None:
    team, user = make_team(), User.objects.create_user("a")
    for row, fields in (
        (AccessKey.objects.issue("a")[0], {"note": "new", "log_bodies": "inherit"}),
        (Team.objects.found("b"), {"note": "new", "log_bodies": "inherit"}),
    ):
        inline = {f"memberships-{form}_FORMS": "0" for form in ("TOTAL", "INITIAL")}
        assert admin.post(page_of(row), {VERSION: version_on(admin, row), **fields, **inline}).status_code == 302
        row.refresh_from_db()
        assert row.note == "new"
    before = version_on(admin, user)
    # A sign-in is no change by somebody, also if it stores a newer hash of the password.
    User.objects.filter(pk=user.pk).update(last_login=datetime(2026, 11, 1, tzinfo=UTC), password="another hash")
    assert version_on(admin, user) == before
    assert version_on(admin, team) != before


@pytest.mark.django_db(transaction=True)
def test_of_two_forms_that_are_sent_at_once_one_is_saved() -> None:
    admin, (key, _) = browser_of(User.objects.create_superuser("root", password=None)), AccessKey.objects.issue("a")
    form = {VERSION: version_on(admin, key), "note": "second", "log_bodies": "inherit"}

    def send() -> str:
        try:
            return admin.post(page_of(key), form).content.decode()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first = AccessKey.objects.select_for_update().get(pk=key.pk)
            first.note = "first"
            first.save(update_fields=["note"])
            answer = pool.submit(send)
            wait_until(lambda: answer.done() or is_somebody_waiting())
        assert STALE in answer.result()
    key.refresh_from_db()
    assert key.note == "first"


def is_somebody_waiting() -> bool:
    """Returns whether another connection to this database waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction always sees what it saw first
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def test_every_table_that_can_be_changed_is_tried_here() -> None:
    pages = django_admin.site._registry.items()
    guarded = {model for model, page in pages if isinstance(page, GuardedAdmin) and not isinstance(page, ReadOnlyAdmin)}
    # A token cannot be changed. Calls, groups of errors and stored views have pages of their own, without such a form.
    assert guarded == {AccessKey, Team, User, Group, AlertRule, AlertChannel, ModelPrice, ApiToken}
