"""Owns who may call: the key in a call, compared in constant time, in memory."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi.exceptions import InvalidKey


@dataclass(frozen=True)
class Caller:
    """Who calls: the name of the key that was given."""

    name: str


class SecurityKeyAuthentication(BaseAuthentication):
    """`security_key` in the body, the form or the query, `X-Security-Key`, or a bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        candidates = (
            _field(request.data, "security_key"),
            request.query_params.get("security_key"),
            request.META.get("HTTP_X_SECURITY_KEY"),
            _bearer(request),
        )
        check_secret(candidates, settings.SECURITY_KEY)
        return Caller("default"), None


class AccessTokenAuthentication(BaseAuthentication):
    """`access_token` in the query, or a bearer token: for the pages that show how the server does."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        check_secret((request.query_params.get("access_token"), _bearer(request)), settings.ACCESS_TOKEN)
        return Caller("access token"), None


def check_secret(candidates: tuple[Any, ...], secret: str | None) -> None:
    """Compares the first candidate that is there. No secret configured means nobody may pass.

    Raises:
        InvalidKey: the same for missing and wrong.
    """
    given = next((candidate for candidate in candidates if candidate is not None), "")
    expected = (secret or "").encode()
    matches = hmac.compare_digest(str(given).encode("utf-8", "replace"), expected)
    if not (matches and expected and isinstance(given, str)):
        raise InvalidKey


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _field(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) or hasattr(data, "get") else None
