"""The check of the issuer of single sign-on: whether it answers, and whether it is the one in the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings

from chatproxy.doctor.finding import Finding, warning

PATIENCE_SECONDS = 2.0
MAX_BYTES = 1024 * 1024
DESCRIPTION = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0
NEEDED = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


def check_issuer() -> Iterator[Finding]:
    """Yields a warning if the issuer in OIDC_ISSUER does not answer.

    Also yields a warning if the issuer describes itself under another name, or without an endpoint that single sign-on
    needs. Yields nothing if OIDC_ISSUER is not set.
    """
    # Not a fault: calls need no issuer, and people with a password can sign in without it.
    if not settings.OIDC_ISSUER:
        return
    try:
        found = read_description(settings.OIDC_ISSUER)
    except (URLError, OSError, ValueError) as error:
        yield warning(
            f"OIDC_ISSUER does not answer as an issuer does ({type(error).__name__}), so nobody can sign in by single"
            f" sign-on; {DESCRIPTION} below it must be a JSON object"
        )
        return
    if str(found.get("issuer", "")).rstrip("/") != settings.OIDC_ISSUER:
        yield warning("the issuer calls itself another name than OIDC_ISSUER; set OIDC_ISSUER to what it says")
    if missing := [name for name in NEEDED if not isinstance(found.get(name), str)]:
        yield warning(f"the issuer has no {', '.join(missing)}, which single sign-on needs")


def read_description(issuer: str) -> dict[str, object]:
    """Reads the description that an issuer publishes about itself (OpenID Connect Discovery); returns its JSON object.

    Raises:
        URLError, OSError: the issuer does not answer within `PATIENCE_SECONDS`, or not with status 200.
        ValueError: the answer is no JSON object.
    """
    with urlopen(f"{issuer}{DESCRIPTION}", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310  (http or https: issuer_url)
        found = json.loads(answer.read(MAX_BYTES))
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found
