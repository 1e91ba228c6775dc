"""Owns the cookie of a device that has signed in before: its login attempts have a count of their own.

The cookie holds who signed in, a random id of the device and a fingerprint of the secret that was used, signed with
`DJANGO_SECRET_KEY`. It opens nothing: it only says which count an attempt belongs to. A change of the password, or of
the key's text, ends it; after a login or a change of one's own password the device gets a new one.

A forged cookie is found out by its signature, before the database is asked anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac

from proxyapi.pages import my_usage

SALT = "chatproxy.known_device"
LONGEST_COOKIE = 1000  # characters


@dataclass(frozen=True)
class Device:
    """The contents of a cookie. `owner` is a user's primary key, or a key's name."""

    owner: str
    device_id: str
    fingerprint: str


@dataclass(frozen=True)
class DeviceCookie:
    """One kind of cookie; `path` is the folder whose login it belongs to."""

    name: str
    path: str
    days: int

    def read(self, cookies: Mapping[str, str]) -> Device | None:
        """Returns what the cookie says if we have signed it; whether it still fits its owner is not looked at."""
        text = cookies.get(self.name)
        if not text:
            return None
        try:
            owner, device_id, fingerprint = signing.loads(
                text[:LONGEST_COOKIE], salt=f"{SALT} {self.name}", max_age=self.days * 86400
            )
        except (signing.BadSignature, ValueError, TypeError):
            return None
        return Device(str(owner), str(device_id), str(fingerprint))

    def write(self, response: HttpResponseBase, owner: str, secret: str) -> None:
        """Gives the device a new id; the counts of its old one are left behind."""
        contents = [owner, secrets.token_urlsafe(16), fingerprint_of(secret)]
        response.set_cookie(
            self.name,
            signing.dumps(contents, salt=f"{SALT} {self.name}"),
            max_age=self.days * 86400,
            path=self.path,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Strict",
        )


ADMIN_DEVICE = DeviceCookie("chatproxy_device", "/admin/", days=180)
KEY_DEVICE = DeviceCookie("chatproxy_key_device", "/my-usage/", days=30)


def fingerprint_of(secret: str) -> str:
    """A digest of a password's hash, or of a key's digest, from which neither can be found."""
    return salted_hmac(SALT, secret, algorithm="sha256").hexdigest()[:32]


def user_of(device: Device | None) -> AbstractBaseUser | None:
    """Returns the user who signed in on this device, if the password has not changed since. Asks the database once."""
    if device is None or not device.owner.isdecimal():
        return None
    user = get_user_model().objects.filter(pk=int(device.owner)).first()
    if user is None or not constant_time_compare(fingerprint_of(user.password), device.fingerprint):
        return None
    return user


def has_valid_key(device: Device | None) -> bool:
    """Whether the text of the key that signed in on this device is in force. Asks no database."""
    if device is None:
        return False
    digests = my_usage.digests_in_force(device.owner)
    return any(constant_time_compare(fingerprint_of(digest), device.fingerprint) for digest in digests)
