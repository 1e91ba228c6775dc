"""Computes the digests of access keys, and encrypts upstream keys for the database and the disk.

The secrets for both are derived (HKDF, RFC 5869) from `KEY_ENCRYPTION_KEY`, or else from `DJANGO_SECRET_KEY`, with a
label each: neither reveals the other. If that secret changes, all access keys made before become unknown.
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
    """An upstream key cannot be decrypted: it was encrypted with another secret, or is damaged."""


def digest(text: str) -> str:
    """Returns the HMAC-SHA256 of a key's text, in hex, which is stored in its place. Takes lone surrogates too."""
    return hmac.digest(_derive(_secret(), PEPPER), text.encode("utf-8", "surrogatepass"), "sha256").hex()


def seal(text: str) -> str:
    """Encrypts an upstream key (Fernet)."""
    return _fernet(_secret()).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Decrypts an upstream key. Raises `CannotUnseal`."""
    try:
        return _fernet(_secret()).decrypt(sealed.encode()).decode()
    except (InvalidToken, UnicodeError):
        raise CannotUnseal from None


def _secret() -> str:
    """Returns the secret from the settings.

    Raises ImproperlyConfigured without one: a process that `serve` has not prepared must make no keys that the server
    would not recognise.
    """
    if not settings.KEY_SECRET:
        raise ImproperlyConfigured(
            "neither KEY_ENCRYPTION_KEY nor DJANGO_SECRET_KEY is set; start the server once, or set one"
        )
    return str(settings.KEY_SECRET)


@cache
def _derive(secret: str, label: bytes) -> bytes:
    """Derives the secret for one use, which `label` names."""
    return HKDF(SHA256(), length=32, salt=None, info=label).derive(secret.encode())


@cache
def _fernet(secret: str) -> Fernet:
    """Returns the cipher for upstream keys."""
    return Fernet(base64.urlsafe_b64encode(_derive(secret, SEAL)))
