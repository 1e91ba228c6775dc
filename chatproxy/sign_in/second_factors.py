"""The methods by which django-allauth asks how to store second factors: encrypted."""

from __future__ import annotations

import logging

from allauth.mfa.adapter import DefaultMFAAdapter
from django.core.exceptions import PermissionDenied

from proxyapi import sealing

logger = logging.getLogger(__name__)


class SecondFactors(DefaultMFAAdapter):  # type: ignore[misc]  # the library has no types
    """The rules of second factors for django-allauth: secrets of apps and recovery codes are stored encrypted."""

    def encrypt(self, text: str) -> str:
        """Encrypts the secret of a second factor with Fernet, and returns the encrypted text to store."""
        return sealing.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Decrypts the secret of a second factor.

        Raises:
            PermissionDenied: it was encrypted with another secret of the gateway, so nobody can sign in with it.
        """
        try:
            return sealing.unseal(encrypted_text)
        except sealing.CannotUnseal as error:
            logger.error("a second factor cannot be decrypted, and must be deleted: KEY_ENCRYPTION_KEY has changed")
            raise PermissionDenied("the second factor cannot be decrypted") from error
