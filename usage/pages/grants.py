"""Owns the rule that nobody grants what he lacks: which users and groups a person may change, and what he may give.

Only a superuser changes a superuser. Anybody else changes a user or a group only if he holds every permission that it
has: otherwise he could set a stronger user's password and sign in as him. What he may give is what he holds. A
permission counts for a user who is not active too, since whoever may change him could make him active.
"""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, Permission, User
from django.db.models import Q, QuerySet

Person = AbstractBaseUser | AnonymousUser


def permissions_of(person: Person) -> QuerySet[Permission]:
    """Returns the permissions that a user holds, by himself or by a group; of a superuser, all there are."""
    if getattr(person, "is_superuser", False):
        return Permission.objects.all()
    if person.pk is None:
        return Permission.objects.none()
    ids = Permission.objects.filter(Q(user=person.pk) | Q(group__user=person.pk)).values("pk")
    return Permission.objects.filter(pk__in=ids)  # each once


def groups_grantable_by(person: Person) -> QuerySet[Group]:
    """Returns the groups all of whose permissions the person holds: those he may change, and put others into."""
    if getattr(person, "is_superuser", False):
        return Group.objects.all()
    beyond = Permission.objects.exclude(pk__in=permissions_of(person).values("pk"))
    return Group.objects.exclude(permissions__in=beyond)


def may_change_user(person: Person, user: User) -> bool:
    if getattr(person, "is_superuser", False):
        return True
    return (
        not user.is_superuser and not permissions_of(user).exclude(pk__in=permissions_of(person).values("pk")).exists()
    )


def may_change_group(person: Person, group: Group) -> bool:
    return groups_grantable_by(person).filter(pk=group.pk).exists()
