"""Gives a person's account the groups and teams that the issuer of single sign-on names for the person.

Only groups that `OIDC_ROLES` names are changed, and teams only if `OIDC_TEAMS_CLAIM` is set. A team or group that does
not exist is logged and left out. Nobody becomes a superuser.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction

from chatproxy.accounts.own_changes import log_own_change
from proxyapi.team_models import Team, TeamMember, TeamRole
from usage.untrusted_text import escape_invisible

logger = logging.getLogger(__name__)


class ClaimedRights(Protocol):
    """Interface for what the issuer of single sign-on states about a person: e-mail address, groups and teams.

    `chatproxy.sign_in.claims.ClaimedPerson` implements it.
    """

    @property
    def email(self) -> str: ...
    @property
    def groups(self) -> Collection[str] | None: ...
    @property
    def teams(self) -> Mapping[str, bool] | None: ...


def apply_claims(user: User, person: ClaimedRights) -> None:
    """Updates a person's account to what the issuer of single sign-on states: e-mail address, groups and teams.

    The account is changed in the database and in `user`. Groups or teams stay as they are if `person` has None for
    them. Changes are recorded in the audit log.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two sign-ins of one person follow one another
        user.refresh_from_db()
        changes = []
        if user.email != person.email:
            changes.append(f"e-mail address from “{user.email}” to “{person.email}”")
            user.email = person.email
            user.save(update_fields=["email"])
        if person.groups is not None:
            changes += _set_groups(user, person.groups)
        if person.teams is not None:
            changes += _set_teams(user, person.teams)
        if changes:
            log_own_change(user, f"Changed by single sign-on: {'; '.join(changes)}.")


def _set_groups(user: User, wanted: Collection[str]) -> list[str]:
    """Puts a user into the groups `wanted`, and takes the user out of all other groups that `OIDC_ROLES` names.

    Groups that do not exist are logged and left out. Also corrects the user's staff status, which lets people open the
    admin: true for a superuser, and for anybody with a group or permission. Returns a list of texts that describe the
    changes.
    """
    controlled = set((settings.OIDC_ROLES or {}).values())
    before = set(user.groups.filter(name__in=controlled).values_list("name", flat=True))
    found = {group.name: group for group in Group.objects.filter(name__in=wanted)}
    for name in set(wanted) - set(found):
        logger.warning("OIDC_ROLES names a group that does not exist: %s", escape_invisible(name, 100))
    user.groups.add(*(group for name, group in found.items() if name not in before))
    user.groups.remove(*Group.objects.filter(name__in=before - set(found)))
    changes = _differences("groups", before, set(found))
    is_staff = user.is_superuser or user.groups.exists() or user.user_permissions.exists()
    if user.is_staff != is_staff:
        user.is_staff = is_staff
        user.save(update_fields=["is_staff"])
        changes.append(f"staff status from {_yes(not is_staff)} to {_yes(is_staff)}")
    return changes


def _set_teams(user: User, wanted: Mapping[str, bool]) -> list[str]:
    """Makes a user a member or lead of the teams in `wanted`, and of no other team.

    `wanted` maps names of teams to whether the user is a lead. Teams that do not exist are logged and left out. Returns
    a list of texts that describe the changes.
    """
    teams = {team.name: team for team in Team.objects.filter(name__in=wanted)}
    for name in set(wanted) - set(teams):
        logger.warning("a claim names a team that does not exist: %s", escape_invisible(name, 100))
    roles = {name: TeamRole.LEAD if wanted[name] else TeamRole.MEMBER for name in teams}
    memberships = TeamMember.objects.filter(user=user).select_related("team")
    before = {f"{one.team.name} ({one.role})" for one in memberships}
    memberships.exclude(team__name__in=teams).delete()
    for name, team in teams.items():
        TeamMember.objects.update_or_create(user=user, team=team, defaults={"role": roles[name]})
    return _differences("teams", before, {f"{name} ({role})" for name, role in roles.items()})


def _differences(what: str, before: set[str], after: set[str]) -> list[str]:
    """Returns a list with one text that says how a set of names has changed, such as `groups: added “viewer”`.

    The list is empty if nothing has changed. `what` is the word before the colon.
    """
    told = [
        f"{verb} {', '.join(f'“{escape_invisible(name, 200)}”' for name in sorted(names))}"
        for verb, names in (("added", after - before), ("removed", before - after))
        if names
    ]
    return [f"{what}: {', '.join(told)}"] if told else []


def _yes(value: bool) -> str:
    return "yes" if value else "no"
