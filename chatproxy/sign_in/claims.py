"""Reads an issuer's claims about a person from the ID token and from the answer of its userinfo endpoint.

(Claims are the facts that the issuer of single sign-on states.) If one is missing, contradictory or of an unexpected
type, the person is refused (`ClaimFault`); nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_VALUES = 500  # of a claim with a list, such as the groups of a person
LEAD = ":lead"  # ends the name of a team whose lead the person is, as in `research:lead`
EMAIL = re.compile(r"[^@\s]{1,64}@([A-Za-z0-9.-]{1,253})")


class ClaimFault(Exception):
    """Error: a person cannot sign in, because of the issuer's claims about them. The message is for the person."""


@dataclass(frozen=True)
class ClaimRules:
    """The settings for reading an issuer's claims: the issuer, the allowed domains, the claims of roles and teams.

    `roles` maps the values of the claim `roles_claim` to the names of groups. If the name of a claim is empty, the
    claim is not read.
    """

    issuer: str
    domains: tuple[str, ...]
    roles_claim: str = ""
    roles: Mapping[str, str] | None = None
    teams_claim: str = ""


@dataclass(frozen=True)
class ClaimedPerson:
    """A person as the issuer describes them. `subject` identifies them at the issuer, and never changes.

    `groups` are the names of the groups for the person's roles. `teams` maps the name of each of the person's teams to
    whether the person leads the team. `groups` or `teams` is None if the settings name no claim for it; the account's
    groups or teams then stay as they are.
    """

    subject: str
    email: str
    name: str
    groups: frozenset[str] | None
    teams: Mapping[str, bool] | None


def read_person(id_token: object, userinfo: object, rules: ClaimRules) -> ClaimedPerson:
    """Reads a person from the claims of an ID token and of the userinfo endpoint, by the rules of the settings.

    Raises:
        ClaimFault: the claims are of another issuer, contradict each other or are of an unexpected type, do not say who
            the person is, or have no verified e-mail address of an allowed domain.
    """
    if not isinstance(id_token, dict) or not isinstance(userinfo, dict | None):
        raise ClaimFault("The sign-in service did not send what was expected.")
    if str(id_token.get("iss", "")).rstrip("/") != rules.issuer:
        raise ClaimFault("The sign-in was made by another issuer than OIDC_ISSUER.")
    subject = id_token.get("sub")
    # OpenID Connect Core 5.3.2: the answer of the userinfo endpoint counts only if it is about the same person.
    if not isinstance(subject, str) or not subject or (userinfo and userinfo.get("sub") != subject):
        raise ClaimFault("The sign-in service did not say who you are.")
    claims = {**id_token, **(userinfo or {})}
    roles = _texts(claims, rules.roles_claim)
    named = rules.roles or {}
    return ClaimedPerson(
        subject=subject,
        email=_verified_email(claims, (id_token, userinfo or {}), rules.domains),
        name=_text(claims, "name"),
        groups=frozenset(named[role] for role in roles if role in named) if rules.roles_claim else None,
        teams=_teams(_texts(claims, rules.teams_claim)) if rules.teams_claim else None,
    )


def _verified_email(
    claims: Mapping[str, object], documents: tuple[Mapping[str, object], ...], domains: tuple[str, ...]
) -> str:
    """Returns the person's verified e-mail address, in lower case, from the ID token and the userinfo answer.

    `documents` are these two, and `claims` are their claims together. One of the two must state both the address and
    that it is verified; neither may state that it is not.

    Raises:
        ClaimFault: there is no address, it is not verified, or its domain is not allowed.
    """
    email = _text(claims, "email").lower()
    match = EMAIL.fullmatch(email)
    if match is None:
        raise ClaimFault("The sign-in service did not send an e-mail address.")
    told = [one for one in documents if "email_verified" in one]
    is_verified = any(_text(one, "email").lower() == email for one in told)
    if not is_verified or any(one["email_verified"] is not True for one in told):  # a text such as "false" is no yes
        raise ClaimFault("Your e-mail address is not verified at the sign-in service.")
    if match[1] not in domains:
        raise ClaimFault("E-mail addresses of your domain may not sign in here.")
    return email


def _teams(names: list[str]) -> dict[str, bool]:
    """Returns the teams in a claim, as a dict from the team's name to whether the person leads the team.

    A person leads a team whose name is followed by `:lead` in the claim, as in `research:lead`.
    """
    found: dict[str, bool] = {}
    for name in names:
        team = name.removesuffix(LEAD)
        found[team] = found.get(team, False) or name.endswith(LEAD)
    return found


def _text(claims: Mapping[str, object], name: str) -> str:
    """Returns the value of a claim that is a printable text; empty if the claim is missing or is something else."""
    value = claims.get(name)
    return value if isinstance(value, str) and value.isprintable() else ""


def _texts(claims: Mapping[str, object], name: str) -> list[str]:
    """Returns the values of a claim that is a list of texts or a single text.

    The list is empty if the claim is missing, or if `name` is empty.

    Raises:
        ClaimFault: the claim is of another type, or has too many values.
    """
    value = claims.get(name, []) if name else []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MAX_VALUES or not all(isinstance(one, str) for one in values):
        raise ClaimFault(f"The sign-in service sent a claim {name} that is no list of texts.")
    return values
