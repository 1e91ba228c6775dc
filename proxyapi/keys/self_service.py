"""The operations that people without a role in the admin may do on keys: on their own, and as leads on those of a team.

A person's own keys are those with this person as `owner_user`. Everybody sees, rotates and revokes their own keys. A
member of a team makes keys for themselves if the team allows it (`Team.self_service`), up to the team's number of keys
and highest budget. A lead sees the spending of the team's keys, makes keys for its members, sets their budgets, and
revokes them. A lead does not see the calls of members, and cannot rotate their keys, since the new secret would open
their calls.

Every change is in the audit log, under the name of the person. All rules are here, so that no page has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from decimal import Decimal

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from proxyapi.models import AccessKey
from proxyapi.team_models import Team, TeamMember, TeamRole
from usage.number_words import counted


def own_keys(person: User) -> QuerySet[AccessKey]:
    """Returns the access keys, also revoked ones, that have the person as their owner."""
    return AccessKey.objects.filter(owner_user=person).select_related("team")


def led_teams(person: User) -> QuerySet[Team]:
    """Returns the teams that the person leads."""
    return Team.objects.filter(memberships__user=person, memberships__role=TeamRole.LEAD)


def teams_to_make_keys_in(person: User) -> QuerySet[Team]:
    """Returns the active teams in which the person may make keys: as a lead, or as a member if members may do so."""
    is_lead, allows = Q(memberships__role=TeamRole.LEAD), Q(self_service=True)
    return Team.objects.filter(Q(memberships__user=person) & (is_lead | allows), active=True).distinct()


def seen_keys(person: User) -> QuerySet[AccessKey]:
    """Returns the keys whose spending the person may see: their own, and the keys of teams that they lead."""
    mine, led = Q(owner_user=person), Q(team__in=led_teams(person).values("pk"))
    return AccessKey.objects.filter(mine | led).select_related("team", "owner_user")


def make_key(
    person: User,
    team: Team,
    name: str,
    owner: User,
    budget_month: Decimal | None,
    allowed_models: Sequence[str] = (),
) -> tuple[AccessKey, str]:
    """Makes a key in a team for the user `owner`, on behalf of `person`; returns the key and its secret.

    `budget_month` is in dollars; None means no budget. `allowed_models` are names and patterns of models; if it is
    empty, the key may use all models of the team. The new key is recorded in the audit log.

    Raises:
        PermissionDenied: the person may not make such a key, the team is archived, or the owner is no member of it.
        ValidationError: the key would break a rule of the team or a rule for keys; the message says which.
    """
    with transaction.atomic():
        team = Team.objects.select_for_update().get(pk=team.pk)  # two keys at once do not pass the number together
        if not team.active or not TeamMember.objects.filter(team=team, user=owner).exists():
            raise PermissionDenied
        if not led_teams(person).filter(pk=team.pk).exists():
            _check_member(person, team, owner, budget_month)
        key, text = AccessKey.objects.issue(
            name, team=team, owner_user=owner, budget_month=budget_month, allowed_models=[*allowed_models]
        )
        rules = "no budget" if budget_month is None else f"budget per month {budget_month}"
        if allowed_models:
            rules += f" and the models {', '.join(allowed_models)}"
        _log(person, key, ADDITION, f"Added in the team “{team}” for {owner.get_username()}, with {rules}.")
    return key, text


def rotate_key(person: User, key_id: int, grace: timedelta) -> tuple[AccessKey, str]:
    """Gives a person's own key a new secret; returns the key and the secret. The old secret is valid during `grace`.

    The change is recorded in the audit log.

    Raises:
        AccessKey.DoesNotExist: the person has no such key.
        ValidationError: the key is revoked, or `grace` is negative or above `LONGEST_GRACE`.
    """
    with transaction.atomic():
        key = own_keys(person).select_for_update(of=("self",)).get(pk=key_id)
        text = key.rotate(grace)
        _log(person, key, CHANGE, "Rotated by its owner.")
    return key, text


def revoke_key(person: User, key_id: int) -> AccessKey:
    """Revokes a person's own key, or a key of a team that the person leads, and returns the key.

    The change is recorded in the audit log.

    Raises:
        AccessKey.DoesNotExist: the person has no such key, and leads no team with it.
    """
    with transaction.atomic():
        key = seen_keys(person).select_for_update(of=("self",)).get(pk=key_id)
        key.revoke()
        _log(person, key, CHANGE, "Revoked.")
    return key


def set_budget(person: User, key_id: int, budget_month: Decimal | None) -> AccessKey:
    """Sets the monthly budget of a key that belongs to a team of which the person is a lead; returns the key.

    `budget_month` is in dollars; None removes the budget. The change is recorded in the audit log.

    Raises:
        AccessKey.DoesNotExist: the person leads no team with such a key.
        ValidationError: a key cannot have this amount as its budget.
    """
    with transaction.atomic():
        keys = AccessKey.objects.filter(team__in=led_teams(person).values("pk"))
        key = keys.select_for_update(of=("self",)).get(pk=key_id)
        before = key.budget_month
        key.budget_month = budget_month  # type: ignore[assignment]  # its options are a dict, of which mypy knows nothing
        key.clean_fields(exclude=[field.name for field in key._meta.fields if field.name != "budget_month"])
        key.save(update_fields=["budget_month"])
        told = ["nothing" if value is None else f"{value}" for value in (before, budget_month)]
        _log(person, key, CHANGE, f"Changed budget per month from {told[0]} to {told[1]}.")
    return key


def _check_member(person: User, team: Team, owner: User, budget_month: Decimal | None) -> None:
    """Checks that a plain member of a team (not a lead) may make a key with this monthly budget in dollars.

    Raises:
        PermissionDenied: the key is for somebody else, or members of this team may not make keys.
        ValidationError: the member has as many keys as the team allows, or the team limits the budget of members' keys,
            and the budget is missing (None) or too high.
    """
    if owner.pk != person.pk or not team.self_service:
        raise PermissionDenied
    most = team.keys_per_member
    # A key that was revoked counts until its month ends: another one in its place would have the whole budget again.
    month = timezone.now().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    is_counted = Q(revoked_at=None) | Q(revoked_at__gte=month)
    if most is not None and team.keys.filter(is_counted, owner_user=person).count() >= most:
        raise ValidationError(
            f"You have {counted(most, 'key')} in this team already, which is as many as it allows. A key that was"
            " revoked counts until the end of the month (UTC); rotate a key to get a new secret."
        )
    highest = team.member_key_budget_month
    if highest is not None and (budget_month is None or budget_month > highest):
        raise ValidationError(f"A key of this team must have a budget of at most ${highest:.2f} a month.")


def _log(person: User, key: AccessKey, action: int, words: str) -> None:
    LogEntry.objects.create(
        user=person,
        content_type=ContentType.objects.get_for_model(AccessKey),
        object_id=str(key.pk),
        object_repr=str(key),
        action_flag=action,
        change_message=words,
    )
