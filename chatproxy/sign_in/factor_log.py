"""Records in the audit log that people add or remove their own second factors; imported only with `SECOND_FACTOR`."""

from __future__ import annotations

from allauth.mfa import signals
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.dispatch import Signal, receiver

from chatproxy.accounts.own_changes import log_own_change

VERBS = {
    signals.authenticator_added: "Added",
    signals.authenticator_removed: "Removed",
    signals.authenticator_reset: "Made anew",
}


@receiver([*VERBS])
def log_factor(signal: Signal, user: User, authenticator: Authenticator, **_: object) -> None:
    """Records that a person has added, removed or made anew one of their second factors; django-allauth calls this."""
    log_own_change(user, f"{VERBS[signal]} the own second factor “{authenticator.get_type_display()}”.")
