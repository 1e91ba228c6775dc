"""The forms in which people enter the code of a second factor. Each code is accepted once, by all workers and hosts.

The library remembers used codes in the memory of one worker only, so another one would accept a code again that
somebody has seen or intercepted, as long as the app shows it.
"""

from __future__ import annotations

import string
from datetime import timedelta

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, BaseAuthenticateForm, ReauthenticateForm

from chatproxy.models import LoginAttempts, LoginLimit
from proxyapi import sealing

# Longer than an app shows a code (30 seconds) and the clocks of two hosts differ, and so short that an app hardly ever
# shows the same code twice.
USED_TIME = timedelta(minutes=5)
IGNORED = str.maketrans("", "", string.punctuation + string.whitespace)  # the library ignores these, too


class CodeAcceptedOnce(BaseAuthenticateForm):  # type: ignore[misc]  # the library has no types
    """Base class of a form for the code of a second factor: accepts each code of a person only once."""

    def clean_code(self) -> str:
        """Returns the entered code, and stores that it was used.

        Raises:
            ValidationError: the code is wrong, or was used before.
        """
        code: str = super().clean_code()
        used = sealing.digest(f"second factor {self.user.pk} {code.translate(IGNORED).lower()}")
        if LoginAttempts.objects.add([LoginLimit(used, 1)], USED_TIME) is not None:
            raise get_adapter().validation_error("incorrect_code")
        return code


class SignInCode(CodeAcceptedOnce, AuthenticateForm):  # type: ignore[misc]  # the library has no types
    """The form for a code during the login."""


class RepeatedCode(CodeAcceptedOnce, ReauthenticateForm):  # type: ignore[misc]  # the library has no types
    """The form for a code that is asked for again, before a second factor is changed."""
