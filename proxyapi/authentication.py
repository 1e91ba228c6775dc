"""Owns who may call: the key in a call, compared in constant time, in memory."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi.exceptions import InvalidBearer, InvalidKey
from proxyapi.requests import ProxyRequest

# A body of this size is parsed for whoever sends it, so that a mistake in it gets the error that names it.
PARSED_FOR_STRANGERS = 64 * 1024


@dataclass(frozen=True)
class Caller:
    """Who calls: the name of the key that was given."""

    name: str


class SecurityKeyAuthentication(BaseAuthentication):
    """`security_key` in the body, the form or the query, `X-Security-Key`, or a bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        candidates = (
            cast(ProxyRequest, request).data.get("security_key"),
            request.query_params.get("security_key"),
            request.META.get("HTTP_X_SECURITY_KEY"),
            _bearer(request),
        )
        check_secret(candidates, settings.SECURITY_KEY)
        return Caller("default"), None


class BearerAuthentication(BaseAuthentication):
    """`/v1`, where a client of OpenAI's sends it: as a bearer token, and nowhere else."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        try:
            check_secret((_bearer(request),), settings.SECURITY_KEY)
        except InvalidKey:
            raise InvalidBearer from None
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


def refuse_stranger(request: ProxyRequest) -> None:
    """Refuses, before it is parsed, a body that can have no valid key in it, when nothing else has one.

    Parsing 50 MB takes seconds of the event loop: a stranger must not be able to ask for that.

    Raises:
        InvalidKey: as for any other missing or wrong key.
    """
    body = request.call_request.raw_body
    if len(body) <= PARSED_FOR_STRANGERS:
        return
    elsewhere = (request.query_params.get("security_key"), request.META.get("HTTP_X_SECURITY_KEY"), _bearer(request))
    key = settings.SECURITY_KEY or ""
    # As JSON writers may spell it: some escape the slash, and all escape quotes and backslashes.
    spellings = {key, json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/")}
    if key not in elsewhere and not any(spelling.encode() in body for spelling in spellings):
        raise InvalidKey


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
