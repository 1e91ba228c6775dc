"""Owns the admin's sessions: Django's, in the database, under keys that only this gateway can make.

A session's key, which is the value of its cookie, ends with a signature of the rest. A made-up cookie is found out by
it, before the database is asked.
"""

from __future__ import annotations

from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.utils.crypto import constant_time_compare, get_random_string, salted_hmac

SALT = "chatproxy.signed_sessions"
RANDOM_CHARACTERS = 24  # of 36 different ones: 124 bits
SIGNATURE_CHARACTERS = 16  # hexadecimal: 64 bits. The table's column has 40


class SessionStore(DatabaseSessions):
    """Django looks for this name in the module that is SESSION_ENGINE."""

    def _get_new_session_key(self) -> str:
        while True:
            key = signed(get_random_string(RANDOM_CHARACTERS, VALID_KEY_CHARS))
            if not self.exists(key):
                return key

    def _validate_session_key(self, key: str | None) -> bool:
        """Whether the key may be looked up; Django's own asks for eight characters."""
        if not key or len(key) != RANDOM_CHARACTERS + SIGNATURE_CHARACTERS:
            return False
        return constant_time_compare(key, signed(key[:RANDOM_CHARACTERS]))


def signed(random: str) -> str:
    return random + salted_hmac(SALT, random, algorithm="sha256").hexdigest()[:SIGNATURE_CHARACTERS]
