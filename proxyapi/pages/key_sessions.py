"""The sign-in of a key's holder to the site "My usage": a cookie that is valid as long as the key's secret.

The cookie has the key's name, signed with a salt that is made from the digest of the secret. When the secret is
rotated, revoked or expires, the keyring no longer has this digest, so the cookie ends, too.

The pages of the site are in `proxyapi.pages.my_usage`. Each worker needs this module before it makes any page.
"""

from __future__ import annotations

from django.core import signing
from django.http import HttpRequest

from proxyapi import sealing
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import KeyInForce, keyring

COOKIE = "chatproxy_my_usage"
COOKIE_SECONDS = 3600
SITE_PATH = "/my-usage/"
SALT = "proxyapi.my_usage"
MAX_KEY_CHARACTERS = 500


def find_caller(text: str) -> Caller | None:
    """Returns the caller whose key has the secret entered in the sign-in form; None if no valid key has it."""
    return keyring.find(secret_of(text))


def secret_of(text: str) -> str:
    """Returns the secret entered in the sign-in form, without white space around it, cut at `MAX_KEY_CHARACTERS`."""
    return text.strip()[:MAX_KEY_CHARACTERS]


def sign(name: str, secret: str) -> str:
    """Makes the value of the sign-in cookie: the name of the key, signed with a salt made from the key's secret."""
    return signing.dumps(name, salt=_salt(sealing.digest(secret)))


def digests_in_force(name: str) -> list[str]:
    """Returns the digests of the valid secrets of the key `name`; its holder can sign in to My usage with each of them.

    The list is empty for an invalid key. It has two digests while the old secret of a rotated key is still valid.
    """
    return list(keyring.in_force(name))


def find_signed_in(request: HttpRequest) -> KeyInForce | None:
    """Returns the key whose holder is signed in to My usage by the request's cookie; None if nobody is signed in."""
    # The cookie is signed with a secret of the key, and becomes invalid together with it.
    cookie = request.COOKIES.get(COOKIE, "")
    for digest, entry in keyring.in_force(_claimed_name(cookie)).items():
        try:
            signing.loads(cookie, salt=_salt(digest), max_age=COOKIE_SECONDS)
        except signing.BadSignature:
            continue
        return entry
    return None


def _claimed_name(cookie: str) -> str:
    """Reads the key's name from a cookie of My usage without checking the signature.

    The name is empty if the cookie is malformed.
    """
    # Anybody can write any name into a cookie: the signature must still be checked.
    try:
        name = signing.JSONSerializer().loads(signing.b64_decode(cookie.partition(":")[0].encode()))
    except (ValueError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _salt(digest: str) -> str:
    """Returns the salt for signing the sign-in cookie of "My usage", made from the digest of the access key's secret.

    So the cookie becomes invalid together with the secret.
    """
    return f"{SALT} {digest}"
