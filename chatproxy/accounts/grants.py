"""The rule that people can grant only rights that they have: which users they may change, and which rights give.

Only a superuser may change a superuser. Anybody else may change a user or a group only if they hold every permission
that it has; otherwise they could set the password of a stronger user and sign in as that user. They may give those
permissions that they hold. A user who owns keys, or who may make keys in a team, counts like one with the permission to
change keys. The permissions of an inactive user count as well, since whoever may change that user could make them
active.
"""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, Permission, User
from django.db.models import Q, QuerySet

from proxyapi.models import AccessKey
from proxyapi.team_models import TeamMember, TeamRole

Person = AbstractBaseUser | AnonymousUser


def permissions_of(person: Person) -> QuerySet[Permission]:
    """Returns the permissions that a user holds, directly or through a group.

    These are all permissions for a superuser, and none for somebody who is not signed in.
    """
    if getattr(person, "is_superuser", False):
        return Permission.objects.all()
    if person.pk is None:
        return Permission.objects.none()
    ids = Permission.objects.filter(Q(user=person.pk) | Q(group__user=person.pk)).values("pk")
    return Permission.objects.filter(pk__in=ids)  # a permission that is held twice is returned once


def groups_grantable_by(person: Person) -> QuerySet[Group]:
    """Returns the groups that a person may change and give to users: the person holds all permissions of the group."""
    if getattr(person, "is_superuser", False):
        return Group.objects.all()
    beyond = Permission.objects.exclude(pk__in=permissions_of(person).values("pk"))
    return Group.objects.exclude(permissions__in=beyond)


def may_change_user(person: Person, user: User) -> bool:
    """Returns whether a person may change a user: the person must hold every permission that the user holds.

    Only a superuser may change a superuser. If the user owns keys or may make keys in a team, the person must also hold
    the permission to change keys; this is not needed to change oneself.
    """
    if getattr(person, "is_superuser", False):
        return True
    if user.is_superuser:
        return False
    held = permissions_of(person)
    if permissions_of(user).exclude(pk__in=held.values("pk")).exists():
        return False
    changes_keys = held.filter(content_type__app_label="proxyapi", codename="change_accesskey").exists()
    return changes_keys or person.pk == user.pk or not _has_keys(user)


def _has_keys(user: User) -> bool:
    """Returns whether a user owns access keys that are not revoked, or may make keys as a lead or member of a team."""
    # Teams that are archived count, too: they may become active again.
    makers = TeamMember.objects.filter(Q(role=TeamRole.LEAD) | Q(team__self_service=True), user=user)
    return makers.exists() or AccessKey.objects.filter(owner_user=user, revoked_at=None).exists()


def may_change_group(person: Person, group: Group) -> bool:
    """Returns whether a person may change a group: the person must hold every permission that the group gives."""
    return groups_grantable_by(person).filter(pk=group.pk).exists()
