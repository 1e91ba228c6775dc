"""Owns what is made with the server's secret: the digests of keys, and upstream keys sealed for the disk.

Both secrets are derived (HKDF, RFC 5869) from `KEY_ENCRYPTION_KEY`, or else from `DJANGO_SECRET_KEY`, with a label
each: neither says anything about the other. With another secret, no key that was made before is known any more.
"""

from __future__ import annotations

import base64
import hmac
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

PEPPER = b"chatproxy key digests"
SEAL = b"chatproxy upstream keys at rest"


class CannotUnseal(Exception):
    """Sealed with another secret, or damaged."""


def digest(text: str) -> str:
    """HMAC-SHA256 of a key, in hex: what is kept of it. Any text has one, lone surrogates too."""
    return hmac.digest(_derive(_secret(), PEPPER), text.encode("utf-8", "surrogatepass"), "sha256").hex()


def seal(text: str) -> str:
    return _fernet(_secret()).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises `CannotUnseal`."""
    try:
        return _fernet(_secret()).decrypt(sealed.encode()).decode()
    except (InvalidToken, UnicodeError):
        raise CannotUnseal from None


def _secret() -> str:
    """A process that `serve` did not prepare must not make keys that the server will not know."""
    if not settings.KEY_SECRET:
        raise ImproperlyConfigured(
            "neither KEY_ENCRYPTION_KEY nor DJANGO_SECRET_KEY is set; start the server once, or set one"
        )
    return str(settings.KEY_SECRET)


@cache
def _derive(secret: str, label: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=label).derive(secret.encode())


@cache
def _fernet(secret: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_derive(secret, SEAL)))
