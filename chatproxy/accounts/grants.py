"""The rule that nobody grants a right that they lack: whom a person may change, and which rights they may give.

Only a superuser changes a superuser. Anybody else changes a user or a group only if they hold every permission that it
has: otherwise they could set the password of a stronger user and sign in as that user. They may give the permissions
that they hold. The permissions of a user who is not active count, too, since whoever may change that user could make
them active.
"""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, Permission, User
from django.db.models import Q, QuerySet

Person = AbstractBaseUser | AnonymousUser


def permissions_of(person: Person) -> QuerySet[Permission]:
    """Returns the permissions that a user holds, directly or through a group; all permissions for a superuser."""
    if getattr(person, "is_superuser", False):
        return Permission.objects.all()
    if person.pk is None:
        return Permission.objects.none()
    ids = Permission.objects.filter(Q(user=person.pk) | Q(group__user=person.pk)).values("pk")
    return Permission.objects.filter(pk__in=ids)  # a permission that is held twice is returned once


def groups_grantable_by(person: Person) -> QuerySet[Group]:
    """Returns the groups that a person may change or put users into: those whose permissions the person holds."""
    if getattr(person, "is_superuser", False):
        return Group.objects.all()
    beyond = Permission.objects.exclude(pk__in=permissions_of(person).values("pk"))
    return Group.objects.exclude(permissions__in=beyond)


def may_change_user(person: Person, user: User) -> bool:
    """Returns whether a person may change a user: the person must hold every permission that the user holds.

    Only a superuser may change a superuser.
    """
    if getattr(person, "is_superuser", False):
        return True
    return (
        not user.is_superuser and not permissions_of(user).exclude(pk__in=permissions_of(person).values("pk")).exists()
    )


def may_change_group(person: Person, group: Group) -> bool:
    """Returns whether a person may change a group: the person must hold every permission that the group gives."""
    return groups_grantable_by(person).filter(pk=group.pk).exists()
