"""What django-allauth asks about second factors: how they are stored."""

from __future__ import annotations

from allauth.mfa.adapter import DefaultMFAAdapter

from proxyapi import sealing


class SecondFactors(DefaultMFAAdapter):  # type: ignore[misc]  # the library has no types
    """The rules of second factors: secrets of authenticator apps and recovery codes are stored encrypted."""

    def encrypt(self, text: str) -> str:
        """Encrypts the secret of a second factor, as upstream keys are encrypted."""
        return sealing.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Decrypts the secret of a second factor."""
        return sealing.unseal(encrypted_text)
