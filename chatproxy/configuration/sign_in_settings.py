"""The settings of single sign-on: their parsers, and their conversion to settings of django-allauth."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chatproxy.configuration.setting_parsers import comma_separated, quoted, text


def single_sign_on(values: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Converts the gateway's settings `values` to django-allauth's settings for single sign-on.

    Returns an empty dict if OIDC_ISSUER is not set.
    """
    if not values["OIDC_ISSUER"]:
        return {}
    issuer = {
        "provider_id": "sso",  # a part of the address to which the issuer sends people back
        "name": values["OIDC_NAME"],
        "client_id": values["OIDC_CLIENT_ID"],
        "secret": values["OIDC_CLIENT_SECRET"],
        "settings": {"server_url": values["OIDC_ISSUER"]},
    }
    return {"openid_connect": {"provider_class": "chatproxy.sign_in.provider.IssuerProvider", "APPS": [issuer]}}


def domains(value: str) -> list[str]:
    """Parses a comma-separated setting of domains of e-mail addresses; returns them in lower case.

    Raises:
        ValueError: an item is no domain, or all items are empty.
    """
    for name in comma_separated(value):
        if not re.fullmatch(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", name):
            raise ValueError(f"{quoted(name)} is not a domain; a comma-separated list such as example.com,example.org")
    return [name.lower() for name in comma_separated(value)]


def role_names(value: str) -> dict[str, str]:
    """Parses a comma-separated setting of roles and the groups they stand for, such as `llm-admins=admin`.

    Returns the name of the group for each role.

    Raises:
        ValueError: an item has no role or no group, a role occurs twice, all items are empty, or `value` contains
            control characters.
    """
    found: dict[str, str] = {}
    for item in comma_separated(text(value)):
        role, _, group = (part.strip() for part in item.partition("="))
        if not role or not group or role in found:
            raise ValueError(f"{quoted(item)} is no role and group; a list such as llm-admins=admin,staff=viewer")
        found[role] = group
    return found
