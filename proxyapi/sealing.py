"""Computes digests and pseudonyms, and encrypts secrets (upstream keys, addresses for alerts) before they are stored.

The cryptographic keys are derived (HKDF, RFC 5869) from `KEY_ENCRYPTION_KEY`, or else from `DJANGO_SECRET_KEY`, each
with a label of its own, so that none reveals another. If that setting changes, all existing access keys become invalid,
and stored upstream keys cannot be decrypted.
"""

from __future__ import annotations

import base64
import hmac
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.core.exceptions import ImproperlyConfigured

from proxyapi.cached_settings import call_settings

PEPPER = b"chatproxy key digests"
SEAL = b"chatproxy upstream keys at rest"
NAME = b"chatproxy names in Via"
PSEUDONYM_DIGITS = 16


class CannotUnseal(Exception):
    """Error: a stored secret cannot be decrypted, because it is damaged or was encrypted with another secret."""


def digest(text: str) -> str:
    """Computes the HMAC-SHA256 of a secret, such as an access key's, in hex, to be stored instead of the secret.

    Raises:
        ImproperlyConfigured: the settings have no secret from which to derive the HMAC's key.
    """
    # Any text has a digest, even one with lone surrogates, which UTF-8 does not allow.
    return hmac.digest(_derive(_secret(), PEPPER), text.encode("utf-8", "surrogatepass"), "sha256").hex()


def pseudonym(text: str) -> str:
    """Computes a pseudonym for `text`: a short HMAC in hex, which reveals neither `text` nor the gateway's secret.

    All processes with the same secret compute the same pseudonym.
    """
    # Few digits are enough: pseudonyms protect nothing and need only differ from each other.
    return hmac.digest(_derive(_secret(), NAME), text.encode(), "sha256").hex()[:PSEUDONYM_DIGITS]


def seal(text: str) -> str:
    """Encrypts a secret, such as an upstream key, with Fernet, to be stored in the database or on the disk.

    Raises:
        ImproperlyConfigured: the settings have no secret from which to derive the encryption key.
    """
    return _fernet(_secret()).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Decrypts a secret that `seal` has encrypted.

    Raises:
        CannotUnseal: the text is damaged, or was encrypted with another secret.
        ImproperlyConfigured: the settings have no secret from which to derive the encryption key.
    """
    try:
        return _fernet(_secret()).decrypt(sealed.encode()).decode()
    except (InvalidToken, UnicodeError):
        raise CannotUnseal from None


def _secret() -> str:
    """Returns the secret in the settings from which all keys for digests and for encryption are derived.

    Raises:
        ImproperlyConfigured: no secret is set, because this process was not started by `serve`, which makes one.
    """
    secret = call_settings().KEY_SECRET
    # Such a process must not create access keys: the server would not recognise them.
    if not secret:
        raise ImproperlyConfigured(
            "neither KEY_ENCRYPTION_KEY nor DJANGO_SECRET_KEY is set; start the server once, or set one"
        )
    return secret


@cache
def _derive(secret: str, label: bytes) -> bytes:
    """Derives a key of 32 bytes from the gateway's `secret` and a `label`; each purpose has its own label."""
    return HKDF(SHA256(), length=32, salt=None, info=label).derive(secret.encode())


@cache
def _fernet(secret: str) -> Fernet:
    """Returns the cipher (Fernet) for stored secrets such as upstream keys, with a key derived from `secret`."""
    return Fernet(base64.urlsafe_b64encode(_derive(secret, SEAL)))
