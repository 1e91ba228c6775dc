"""Decides whether a person whom the issuer has authenticated may sign in, and keeps their account up to date.

Invariants: an account belongs to one subject (person) of one issuer, and to nobody else, whatever their e-mail address.
A person without a verified e-mail address of an allowed domain does not get in, even with an account. Single sign-on
never takes over an account that was made with a password. Each sign-in gives the account exactly the groups and teams
that the issuer's claims name; each such change is in the audit log.
"""

from __future__ import annotations

import logging
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from chatproxy.accounts.from_claims import apply_claims
from chatproxy.sign_in.claims import ClaimedPerson, ClaimFault, ClaimRules, read_person
from usage.metric_counters import counters

logger = logging.getLogger(__name__)

REFUSED = "sign_in_refused"  # in chatproxy_refused_total


class SingleSignOn(DefaultSocialAccountAdapter):  # type: ignore[misc]  # the library has no types
    """Rules of single sign-on for django-allauth: who may sign in, and how their account is created or changed."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """Returns a list with the one issuer that the settings name; empty if another `provider` is asked for.

        Unlike in the library, no issuers are read from the database.
        """
        providers: dict[str, Any] = settings.SOCIALACCOUNT_PROVIDERS
        (facts,) = providers["openid_connect"]["APPS"]
        app = SocialApp(provider="openid_connect", **facts)
        return [app] if provider in (None, app.provider, app.provider_id) else []

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuses a person who may not sign in; otherwise updates the person's account, if any, by the issuer's claims.

        Raises:
            ImmediateHttpResponse: the person is refused; the response says why.
        """
        data = sociallogin.account.extra_data
        try:
            person = read_person(data.get("id_token"), data.get("userinfo"), claim_rules())
            if User.objects.filter(email__iexact=person.email).exclude(pk=sociallogin.user.pk).exists():
                raise ClaimFault(
                    f"There is another account with the e-mail address {person.email}. Ask an administrator to remove"
                    " the address from it, or to delete it."
                )
            if not sociallogin.is_existing:
                check_user_name(person.email)
        except ClaimFault as fault:
            raise ImmediateHttpResponse(refusal(request, str(fault))) from None
        request.signed_in_person = person  # type: ignore[attr-defined]  # for `save_user`, in the same request
        # What the issuer has sent is not kept: it is personal, and asked for at each sign-in.
        sociallogin.account.extra_data = {"issuer": settings.OIDC_ISSUER}
        # The library's own table of addresses decides nothing here; an address in it would stop whoever has it now.
        sociallogin.email_addresses = []
        if sociallogin.is_existing:
            sociallogin.account.save(update_fields=["extra_data"])
            apply_claims(sociallogin.user, person)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Returns True: a person whom the issuer knows may get an account; `pre_social_login` has refused others."""
        return True

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: object = None) -> User:
        """Creates the account of a person who signs in for the first time, and returns it.

        The account gets the groups and teams that the issuer's claims name.
        """
        person: ClaimedPerson = request.signed_in_person  # type: ignore[attr-defined]
        # Without a name the library would make one from other claims, which the person may have chosen.
        sociallogin.user.username = person.email
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            apply_claims(user, person)
        return user

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, object]) -> User:
        """Fills the fields of a new account, and makes its e-mail address the user name; returns the account."""
        # `preferred_username` may be chosen by the person, and could look like somebody else's name.
        data = {**data, "username": data.get("email")}
        user: User = super().populate_user(request, sociallogin, data)
        return user

    def on_authentication_error(self, request: HttpRequest, provider: object, *_: object, **facts: object) -> None:
        """Shows a page of the gateway for a sign-in that failed, and logs the kind of the error.

        Raises:
            ImmediateHttpResponse: always; the response says that the sign-in failed.
        """
        error = facts.get("exception")
        logger.warning("a single sign-on has failed: %s", type(error).__name__ if error else facts.get("error"))
        words = "The sign-in was not completed. Try again; if it fails again, tell an administrator."
        raise ImmediateHttpResponse(refusal(request, words))


def check_user_name(name: str) -> None:
    """Checks that a new account can have an e-mail address as its user name.

    Raises:
        ClaimFault: another account has the name, in any letter case, or Django does not allow the name.
    """
    if User.objects.filter(username__iexact=name).exists():
        raise ClaimFault(f"There is another account with the user name {name}. Ask an administrator to rename it.")
    try:
        User(username=name).clean_fields(exclude=[one.name for one in User._meta.fields if one.name != "username"])
    except ValidationError:
        raise ClaimFault(
            f"Your e-mail address {name} cannot be a user name, which has at most 150 characters: letters, digits and"
            " @ . + - _"
        ) from None


def claim_rules() -> ClaimRules:
    """Returns the rules for reading an issuer's claims about a person, from the settings."""
    return ClaimRules(
        issuer=settings.OIDC_ISSUER or "",
        domains=tuple(settings.OIDC_DOMAINS),
        roles_claim=settings.OIDC_ROLES_CLAIM or "",
        roles=settings.OIDC_ROLES,
        teams_claim=settings.OIDC_TEAMS_CLAIM or "",
    )


def refusal(request: HttpRequest, words: str) -> HttpResponse:
    """Returns a page with status 403 that says why a person cannot sign in, and counts the refusal."""
    counters.count_refusal(REFUSED)
    return render(request, "sign_in/refused.html", {"words": words}, status=403)
