"""People for tests of the admin: one signed-in browser for each role that exists by default, and for a superuser."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.models import Count
from django.test import Client

migration = import_module("chatproxy.migrations.0002_roles")
GRANTS = ("0004_alerts", "0005_team_permissions", "0006_token_permissions")
later_grants = [import_module(f"chatproxy.migrations.{name}") for name in GRANTS]
ROLES = ("viewer", "analyst", "key manager", "admin")
SUPERUSER = "superuser"
EVERYBODY = (*ROLES, SUPERUSER)


def make_groups() -> None:
    """Creates the groups of the admin's roles, such as "viewer", in the database.

    The migrations have made them, but they may be missing: tests with transactions of their own empty the tables.
    """
    migration.make_groups(apps, SimpleNamespace(connection=connection))
    for later in later_grants:
        later.grant_permissions(apps, SimpleNamespace(connection=connection))


def have_groups() -> None:
    """Creates the groups of the admin's roles like `make_groups`, unless they are there as the migrations make them.

    To look for them takes a tenth of the time of making them.
    """
    found = Group.objects.filter(name__in=ROLES).annotate(held=Count("permissions")).values_list("name", "held")
    if dict(found) != {role: number_of_permissions(role) for role in ROLES}:
        make_groups()


def number_of_permissions(role: str) -> int:
    """Returns how many permissions the migrations give to a role."""
    return len(migration.ROLES[role]) + sum(len(later.ROLES.get(role, ("", ()))[1]) for later in later_grants)


def person(role: str, name: str = "") -> User:
    """Creates a user of the admin who has the role `role`, such as "viewer" or superuser, and returns the user."""
    name = name or f"a {role}"
    if role == SUPERUSER:
        return User.objects.create_superuser(name, password=None)
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def staff(name: str, *permissions: str) -> User:
    """Creates a user of the admin who has the given permissions and no role, and returns the user.

    A permission is written like `auth.change_user`.
    """
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions:
        app_label, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
    return user


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
