"""The sessions of the admin: Django's sessions in the database, with signed keys that only this gateway can make.

A session's key is the value of the session cookie. It is a random text and a signature of that text, so a forged cookie
is recognised without a query.
"""

from __future__ import annotations

from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.utils.crypto import constant_time_compare, get_random_string, salted_hmac

SALT = "chatproxy.signed_sessions"
RANDOM_CHARACTERS = 24  # each one of 36: 124 bits in all
SIGNATURE_CHARACTERS = 16  # hexadecimal: 64 bits. Both together fit the table's column, which has 40 characters


class SessionStore(DatabaseSessions):
    """The store of the admin's sessions in the database, with session keys that this gateway signs."""

    # Django looks for a class of this name in the module that SESSION_ENGINE names.
    def _get_new_session_key(self) -> str:
        """Returns a new, signed session key, different from those of all stored sessions."""
        while True:
            key = signed(get_random_string(RANDOM_CHARACTERS, VALID_KEY_CHARS))
            if not self.exists(key):
                return key

    def _validate_session_key(self, key: str | None) -> bool:
        """Returns whether this gateway has signed a session key."""
        # Django alone checks the length only, and a made-up key would cost a query.
        if not key or len(key) != RANDOM_CHARACTERS + SIGNATURE_CHARACTERS:
            return False
        return constant_time_compare(key, signed(key[:RANDOM_CHARACTERS]))


def signed(random: str) -> str:
    """Returns the session key that consists of the text `random` and a signature of this text, which is shortened."""
    return random + salted_hmac(SALT, random, algorithm="sha256").hexdigest()[:SIGNATURE_CHARACTERS]
