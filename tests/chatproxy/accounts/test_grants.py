"""Nobody grants a right that they lack: no form of the admin makes anybody stronger than the person who sends it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client

from chatproxy.accounts.grants import groups_grantable_by, may_change_user, permissions_of
from proxyapi.models import AccessKey
from proxyapi.team_models import Team, TeamMember
from tests.support.callers.roles import browser_of, have_groups, person, staff

pytestmark = pytest.mark.django_db
USERS, GROUPS = "/admin/auth/user/", "/admin/auth/group/"
ACCOUNTS = tuple(
    f"auth.{action}_{table}" for action in ("view", "add", "change", "delete") for table in ("user", "group")
)
OLD, NEW = "an-old-pass-phrase", "a-new-pass-phrase-7"


@pytest.fixture
def manager() -> User:
    """Makes a user who may do everything with users and groups, and nothing else."""
    have_groups()
    return staff("manager", *ACCOUNTS)


@pytest.fixture
def browser(manager: User) -> Client:
    return browser_of(manager)


@pytest.fixture(params=["superuser", "inactive superuser", "stronger", "inactive and stronger", "stronger by a group"])
def beyond(request: pytest.FixtureRequest) -> User:
    """Makes a user or group with a right that the manager lacks, in each possible way."""
    user = User.objects.create_user("beyond", password=OLD, is_staff=True)
    if "superuser" in request.param:
        user.is_superuser = True
    elif "group" in request.param:
        user.groups.add(Group.objects.get(name="analyst"))
    else:
        user.user_permissions.add(Permission.objects.get(codename="view_requestbody"))
    user.is_active = "inactive" not in request.param
    user.save()
    return user


def fields_of(user: User, **changed: Any) -> dict[str, Any]:
    """Returns the fields of a change form as a browser sends them."""
    fields = {
        "username": user.username, "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
        "groups": list(user.groups.values_list("pk", flat=True)),
        "user_permissions": list(user.user_permissions.values_list("pk", flat=True)),
    }  # fmt: skip
    flags = {name: "on" for name in ("is_active", "is_staff") if getattr(user, name)}
    return {**fields, **flags, **changed}


def state_of(user: User) -> tuple[Any, ...]:
    user = User.objects.get(pk=user.pk)
    return (
        user.username, user.password, user.email, user.is_active, user.is_staff, user.is_superuser,
        set(permissions_of(user).values_list("pk", flat=True)), set(user.groups.values_list("pk", flat=True)),
    )  # fmt: skip


def test_it_works(manager: User, browser: Client) -> None:
    """A person can grant, change and take away rights that they hold."""
    weak = User.objects.create_user("weak")
    permission = Permission.objects.get(codename="view_user")
    assert browser.post(f"{USERS}{weak.pk}/change/", fields_of(weak, email="weak@example.com",
        user_permissions=[permission.pk])).status_code == 302  # fmt: skip
    assert set(permissions_of(weak)) == {permission}
    weak.refresh_from_db()
    passwords = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    assert browser.post(f"{USERS}{weak.pk}/password/", passwords).status_code == 302
    weak.refresh_from_db()
    assert weak.check_password(NEW)
    assert browser.post(f"{USERS}add/", {"username": "new", **passwords}).status_code == 302
    assert browser.post(f"{GROUPS}add/", {"name": "own", "permissions": [permission.pk]}).status_code == 302
    assert browser.post(f"{USERS}{weak.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=weak.pk).exists()


@pytest.mark.parametrize("path", ["", "many"])
def test_a_user_with_a_second_factor_is_deleted_when_they_are_switched_off(admin: Client, path: str) -> None:
    """The library's tables stay, and Django knows nothing of them then."""
    user = User.objects.create_user("ada")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE mfa_authenticator (id bigserial PRIMARY KEY, user_id int REFERENCES auth_user)")
        cursor.execute("INSERT INTO mfa_authenticator (user_id) VALUES (%s)", [user.pk])
    if path:
        form = {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes"}
        assert admin.post(USERS, form).status_code == 302
    else:
        assert admin.post(f"{USERS}{user.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=user.pk).exists()


@pytest.mark.parametrize("who", ["himself", "another"])
def test_nobody_makes_a_superuser(manager: User, browser: Client, who: str) -> None:
    user = manager if who == "himself" else User.objects.create_user("another")

    assert browser.post(f"{USERS}{user.pk}/change/", fields_of(user, is_superuser="on")).status_code == 403
    assert not User.objects.filter(is_superuser=True).exists()


def test_nobody_adds_a_superuser(browser: Client) -> None:
    fields = {"username": "new", "password1": NEW, "password2": NEW, "usable_password": "true", "is_superuser": "on"}

    assert browser.post(f"{USERS}add/", fields).status_code == 403
    assert not User.objects.filter(username="new").exists()


@pytest.mark.parametrize("what", ["a key", "a revoked key", "leads", "is a member", "makes keys"])
def test_keys_and_teams_count_like_the_right_to_change_keys(manager: User, what: str) -> None:
    user, team = User.objects.create_user("ada"), Team.objects.found("research", self_service=what == "makes keys")
    if what in ("a key", "a revoked key"):
        key, _ = AccessKey.objects.issue("a key", owner_user=user)
        key.revoke() if "revoked" in what else None
    else:
        TeamMember.objects.create(team=team, user=user, role="lead" if what == "leads" else "member")

    assert may_change_user(manager, user) == (what in ("a revoked key", "is a member"))
    assert may_change_user(user, user)
    assert may_change_user(staff("key manager", *ACCOUNTS, "proxyapi.change_accesskey"), user)


@pytest.mark.parametrize("who", ["himself", "another"])
@pytest.mark.parametrize("field", ["user_permissions", "groups"])
def test_nobody_gives_what_he_lacks(manager: User, browser: Client, who: str, field: str) -> None:
    user = manager if who == "himself" else User.objects.create_user("another")
    before = state_of(user)
    lacked = (
        Permission.objects.exclude(pk__in=permissions_of(manager)).values_list("pk", flat=True)
        if field == "user_permissions"
        else Group.objects.filter(name__in=["viewer", "analyst", "admin"]).values_list("pk", flat=True)
    )
    for given in [[lacked[0]], [*lacked]]:  # rendering the form takes a third of a second
        answer = browser.post(f"{USERS}{user.pk}/change/", fields_of(user, **{field: given}))
        assert answer.status_code == 200, given
        assert "Select a valid choice" in answer.content.decode()

    assert state_of(user) == before


def test_the_form_offers_what_may_be_given(manager: User, browser: Client) -> None:
    form = browser.get(f"{USERS}{manager.pk}/change/").context["adminform"].form

    assert set(form.fields["user_permissions"].queryset) == set(permissions_of(manager))
    assert set(form.fields["groups"].queryset.values_list("name", flat=True)) == set()
    assert "is_superuser" not in form.fields


def test_nobody_touches_who_is_stronger(browser: Client, beyond: User) -> None:
    before = state_of(beyond)
    page = f"{USERS}{beyond.pk}/"
    passwords = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    many = {"action": "delete_selected", "_selected_action": [beyond.pk], "post": "yes"}

    assert browser.post(f"{page}change/", fields_of(beyond, email="x@example.com")).status_code == 403
    assert browser.post(f"{page}change/", fields_of(beyond, is_active="")).status_code == 403
    assert browser.post(f"{page}password/", passwords).status_code == 403
    assert browser.post(f"{page}password/", {"usable_password": "false", "unset-password": "1"}).status_code == 403
    assert browser.get(f"{page}password/").status_code == 403
    assert browser.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    assert browser.post(USERS, many).status_code == 403
    assert browser.post(USERS, {"form-0-id": beyond.pk, "form-0-is_superuser": "", "_save": "1"}).status_code == 200
    assert state_of(beyond) == before


def test_nobody_sees_the_start_of_a_stronger_ones_hash(browser: Client, beyond: User) -> None:
    page = browser.get(f"{USERS}{beyond.pk}/change/")

    assert page.status_code == 200
    assert "algorithm" not in page.content.decode()
    assert beyond.password.rpartition("$")[2][:6] not in page.content.decode()


def test_nobody_changes_a_group_beyond_his_own_rights(manager: User, browser: Client) -> None:
    group = Group.objects.get(name="viewer")
    manager.groups.create(name="mine")
    mine = Group.objects.get(name="mine")
    lacked = Permission.objects.get(codename="view_requestbody")
    held = Permission.objects.get(codename="view_user")

    assert browser.post(f"{GROUPS}{group.pk}/change/", {"name": "v", "permissions": [held.pk]}).status_code == 403
    assert browser.post(f"{GROUPS}{group.pk}/delete/", {"post": "yes"}).status_code == 403
    many = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    assert browser.post(GROUPS, many).status_code == 403
    for path in (f"{GROUPS}{mine.pk}/change/", f"{GROUPS}add/"):
        answer = browser.post(path, {"name": "strong", "permissions": [lacked.pk]})
        assert answer.status_code == 200
        assert "Select a valid choice" in answer.content.decode()
    assert sorted(group.permissions.values_list("codename", flat=True)) == ["view_alert", "view_request"]
    assert not mine.permissions.exists()


def test_the_role_admin_is_bounded_by_itself() -> None:
    have_groups()
    boss = person("admin")
    browser = browser_of(boss)
    root = User.objects.create_superuser("root", password=OLD)
    weak = User.objects.create_user("weak")
    roles = {group.pk for group in Group.objects.filter(name__in=["viewer", "analyst", "key manager", "admin"])}

    assert set(groups_grantable_by(boss).values_list("pk", flat=True)) >= roles
    fields = fields_of(weak, is_staff="on", groups=list(roles))
    assert browser.post(f"{USERS}{weak.pk}/change/", fields).status_code == 302
    assert set(permissions_of(weak)) == set(permissions_of(boss))
    assert not may_change_user(boss, root)
    assert browser.post(f"{USERS}{root.pk}/password/", {"password1": NEW, "password2": NEW}).status_code == 403
    assert browser.post(f"{USERS}{weak.pk}/change/", fields_of(weak, is_superuser="on")).status_code == 403


def test_what_was_saved_is_looked_at_once_more(manager: User, browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a form ever offers too many rights, nothing of what it sends is saved."""
    weak = User.objects.create_user("weak")
    monkeypatch.setattr("chatproxy.accounts.accounts_admin.permissions_of", lambda _person: Permission.objects.all())
    lacked = Permission.objects.get(codename="view_requestbody")
    answer = browser.post(f"{USERS}{weak.pk}/change/", fields_of(weak, user_permissions=[lacked.pk], email="a@b.cd"))

    assert answer.status_code == 403
    weak.refresh_from_db()
    assert weak.email == ""
    assert not permissions_of(weak).exists()


def test_a_superuser_does_as_before(admin: Client) -> None:
    other = User.objects.create_superuser("other", password=OLD)
    permission = Permission.objects.get(codename="view_requestbody")
    fields = fields_of(other, is_superuser="on", user_permissions=[permission.pk])

    assert admin.post(f"{USERS}{other.pk}/change/", fields).status_code == 302
    assert admin.post(f"{USERS}{other.pk}/change/", fields_of(other)).status_code == 302
    assert not User.objects.get(pk=other.pk).is_superuser


@pytest.mark.parametrize("password", ["1", "password", "elevenchars", "982451653497"])
def test_no_form_takes_a_weak_password(admin: Client, password: str) -> None:
    user = User.objects.create_user("weak", password=OLD)
    passwords = {"password1": password, "password2": password, "usable_password": "true"}

    assert admin.post(f"{USERS}add/", {"username": "new", **passwords}).status_code == 200
    assert admin.post(f"{USERS}{user.pk}/password/", passwords).status_code == 200
    user.refresh_from_db()
    assert user.check_password(OLD)
    assert not User.objects.filter(username="new").exists()
