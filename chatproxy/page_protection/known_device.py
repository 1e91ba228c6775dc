"""The cookie of a device on which somebody has signed in. Login attempts from such a device are counted separately.

The cookie contains the owner (a user or a key), a random id of the device, and a fingerprint of the password or key
that was used; it is signed with `DJANGO_SECRET_KEY`. It grants no access, and only decides to which count a login
attempt is added. A change of the password, or of the key's secret, makes the cookie invalid. After a login, or after
changing one's own password, the device gets a new cookie.

A forged cookie is detected by its signature, before any query.
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

from proxyapi.pages import key_sessions

SALT = "chatproxy.known_device"
MAX_COOKIE_LENGTH = 1000  # characters; a longer cookie is cut, so that its signature does not match


@dataclass(frozen=True)
class Device:
    """The contents of the cookie that marks a device on which somebody has signed in.

    `owner` is the user's primary key, or the access key's name. `fingerprint` is a digest of the password or secret
    that was used.
    """

    owner: str
    device_id: str
    fingerprint: str


@dataclass(frozen=True)
class DeviceCookie:
    """A kind of cookie that marks a device on which somebody has signed in: its name, path and lifetime.

    The cookie grants no access; login attempts with it are counted separately. `path` is the URL path of the pages with
    the login form: the admin's, or that of "My usage".
    """

    # So strangers who use up the attempts of a user name or a network do not lock out the owner of the device.
    name: str
    path: str
    days: int

    def read(self, cookies: Mapping[str, str]) -> Device | None:
        """Returns the contents of the device cookie in a request; None if it is missing, forged or too old.

        The password or key may have changed since the cookie was set; call `user_of` or `has_valid_key` to check this.
        """
        text = cookies.get(self.name)
        if not text:
            return None
        try:
            owner, device_id, fingerprint = signing.loads(
                text[:MAX_COOKIE_LENGTH], salt=f"{SALT} {self.name}", max_age=self.days * 86400
            )
        except (signing.BadSignature, ValueError, TypeError):
            return None
        return Device(str(owner), str(device_id), str(fingerprint))

    def write(self, response: HttpResponseBase, owner: str, secret: str) -> None:
        """Sets the device cookie on a response, with a new random device id.

        `owner` is the primary key of the user, or the name of the access key, that has signed in; `secret` is the
        password's hash or the key's digest.
        """
        # No login attempts are counted yet for a new id.
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
    """Returns a digest of `secret` that may be stored in a cookie.

    `secret` is the hash of a user's password, or the digest of an access key.
    """
    return salted_hmac(SALT, secret, algorithm="sha256").hexdigest()[:32]


def user_of(device: Device | None) -> AbstractBaseUser | None:
    """Reads from the database the user who has signed in on `device`, and returns the user.

    Returns None if the password has changed since that sign-in, if the user no longer exists, or if `device` is None or
    is one on which a key was used to sign in.
    """
    if device is None or not device.owner.isdecimal():
        return None
    user = get_user_model().objects.filter(pk=int(device.owner)).first()
    if user is None or not constant_time_compare(fingerprint_of(user.password), device.fingerprint):
        return None
    return user


def has_valid_key(device: Device | None) -> bool:
    """Returns whether the access key that was used to sign in on `device` is still valid, with the same secret.

    Returns False if `device` is None.
    """
    if device is None:
        return False
    # This makes no query: the keys are in memory.
    digests = key_sessions.digests_in_force(device.owner)
    return any(constant_time_compare(fingerprint_of(digest), device.fingerprint) for digest in digests)
