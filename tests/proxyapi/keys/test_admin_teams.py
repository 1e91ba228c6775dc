"""The teams' pages in the admin: a team is made, changed and archived there, and never deleted or renamed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import ProtectedError
from django.test import Client

from proxyapi import sealing
from proxyapi.models import AccessKey
from proxyapi.team_models import Team, TeamMember, TeamRole
from tests.support.callers.roles import SUPERUSER, browser_of, person

pytestmark = pytest.mark.django_db

LIST = "/admin/proxyapi/team/"
KEYS = "/admin/proxyapi/accesskey/"
NO_MEMBERS = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
FIELDS = {"name": "team a", "log_bodies": "inherit", **NO_MEMBERS}
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}\"'&"


@pytest.fixture
def admin() -> Client:
    return browser_of(person(SUPERUSER))


def page_of(team: Team) -> str:
    return f"{LIST}{team.pk}/change/"


def test_it_works(admin: Client) -> None:
    ada = User.objects.create_user("ada")
    limits = {"requests_per_minute": "60", "budget_month": "25.5", "allowed_models": "gpt-4o*\no1", "tags": "project=x"}
    members = {
        "memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(ada.pk), "memberships-0-role": "lead",
    }  # fmt: skip
    answer = admin.post(f"{LIST}add/", {**FIELDS, **limits, **members, "upstream_key": "sk-of-its-own"})
    team = Team.objects.get()

    assert answer.status_code == 302
    assert (team.name, team.requests_per_minute, team.budget_month) == ("team a", 60, Decimal("25.5"))
    assert (team.allowed_models, team.tags) == (["gpt-4o*", "o1"], ["project=x"])
    assert team.tokens_per_minute is None
    assert sealing.unseal(team.sealed_upstream_key) == "sk-of-its-own"
    assert list(team.memberships.values_list("user__username", "role")) == [("ada", TeamRole.LEAD)]
    assert LogEntry.objects.get().object_repr == "team a"


def test_a_name_is_fixed_and_no_two_look_the_same(admin: Client) -> None:
    team = Team.objects.found("team a")
    admin.post(page_of(team), {**FIELDS, "name": "team b", "note": "changed", "active": "on"})
    again = admin.post(f"{LIST}add/", {**FIELDS, "name": "Team  A"})

    assert [(team.name, team.note) for team in Team.objects.all()] == [("team a", "changed")]
    assert "Team with this Name already exists" in again.content.decode()


def test_a_key_is_put_into_a_team_that_is_not_archived(admin: Client) -> None:
    team, archived = Team.objects.found("team a"), Team.objects.found("gone", active=False)
    form = {"name": "a key", "log_bodies": "inherit"}
    assert admin.post(f"{KEYS}add/", {**form, "team": str(archived.pk)}).status_code == 200
    assert not AccessKey.objects.exists()

    admin.post(f"{KEYS}add/", {**form, "team": str(team.pk)})
    key = AccessKey.objects.select_related("team").get()
    assert key.team == team
    Team.objects.filter(pk=team.pk).update(active=False)
    changed = {"team": str(team.pk), "log_bodies": "inherit", "note": "still there", "active": "on"}
    assert admin.post(f"{KEYS}{key.pk}/change/", changed).status_code == 302


def test_the_list_of_keys_is_narrowed_to_a_team(admin: Client) -> None:
    team = Team.objects.found("team a")
    AccessKey.objects.issue("inside", team=team)
    AccessKey.objects.issue("outside")
    for value, expected in ((str(team.pk), ["inside"]), ("none", ["outside"]), ("nonsense", ["inside", "outside"])):
        found = admin.get(KEYS, {"team": value}).context["cl"].result_list
        assert [key.name for key in found] == expected
    assert "inside" in admin.get(page_of(team)).content.decode()


def test_nobody_deletes_a_team(admin: Client) -> None:
    team = Team.objects.found("team a")
    AccessKey.objects.issue("inside", team=team)

    assert admin.post(f"{LIST}{team.pk}/delete/", {"post": "yes"}).status_code == 403
    with pytest.raises(ProtectedError):
        team.delete()


def test_a_person_who_goes_leaves_the_team() -> None:
    team, ada = Team.objects.found("team a"), User.objects.create_user("ada")
    TeamMember.objects.create(team=team, user=ada)
    ada.delete()

    assert Team.objects.get().memberships.count() == 0


def test_the_list_says_how_teams_are(admin: Client) -> None:
    Team.objects.found("gone", active=False)
    busy = Team.objects.found("busy")
    AccessKey.objects.issue("one", team=busy)
    AccessKey.objects.issue("two", team=busy)[0].revoke()
    for name in ("ada", "bob"):
        TeamMember.objects.create(team=busy, user=User.objects.create_user(name))
    (active,) = admin.get(LIST, {"state": "active"}).context["cl"].result_list

    assert (active.name, active.keys_in_use, active.people) == ("busy", 1, 2)
    assert [team.name for team in admin.get(LIST, {"state": "archived"}).context["cl"].result_list] == ["gone"]


def test_hostile_text_is_shown_as_text(admin: Client) -> None:
    team = Team.objects.found(HOSTILE, note=HOSTILE, tags=[HOSTILE])
    key, _ = AccessKey.objects.issue(HOSTILE, team=team)
    for page in (LIST, page_of(team), KEYS, f"{KEYS}{key.pk}/change/"):
        assert "<script>alert(1)" not in admin.get(page).content.decode()
