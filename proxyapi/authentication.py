"""Owns who may call: where a call has its key; whose it is, says the keyring, in memory and in constant time."""

from __future__ import annotations

import hmac
import json
from typing import Any, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi.exceptions import InvalidBearer, InvalidKey
from proxyapi.keyring import Caller, keyring
from proxyapi.models import KEY_LENGTH, PREFIX
from proxyapi.requests import ProxyRequest

# A body of this size is parsed for whoever sends it, so that a mistake in it gets the error that names it.
PARSED_FOR_STRANGERS = 64 * 1024
# In a larger one, a key is looked for at so many places that look like the beginning of one.
PLACES_LOOKED_AT = 10_000


class SecurityKeyAuthentication(BaseAuthentication):
    """`security_key` in the body, the form or the query, `X-Security-Key`, or a bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        candidates = (
            cast(ProxyRequest, request).data.get("security_key"),
            request.query_params.get("security_key"),
            request.META.get("HTTP_X_SECURITY_KEY"),
            _bearer(request),
        )
        return find_caller(candidates), None


class BearerAuthentication(BaseAuthentication):
    """`/v1`, where a client of OpenAI's sends it: as a bearer token, and nowhere else."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        try:
            return find_caller((_bearer(request),)), None
        except InvalidKey:
            raise InvalidBearer from None


class AccessTokenAuthentication(BaseAuthentication):
    """`access_token` in the query, or a bearer token: for the pages that show how the server does."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        check_secret((request.query_params.get("access_token"), _bearer(request)), settings.ACCESS_TOKEN)
        return Caller("access token"), None


def find_caller(candidates: tuple[Any, ...]) -> Caller:
    """Whose key the first candidate that is there is.

    Raises:
        InvalidKey: the same for missing, unknown, expired and revoked.
    """
    given = next((candidate for candidate in candidates if candidate is not None), "")
    caller = keyring.find(given if isinstance(given, str) else "")
    if caller is None:
        raise InvalidKey
    return caller


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
    if not any(keyring.find(text or "") for text in elsewhere) and not _has_key(body):
        raise InvalidKey


def _has_key(body: bytes) -> bool:
    """Whether a valid key is anywhere in it."""
    key = settings.SECURITY_KEY or ""
    # As JSON writers may spell it: some escape the slash, and all escape quotes and backslashes.
    spellings = {key, json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/")}
    if key and any(spelling.encode() in body for spelling in spellings):
        return True
    at = -1
    for _ in range(PLACES_LOOKED_AT):
        at = body.find(PREFIX.encode(), at + 1)
        if at < 0:
            break
        if keyring.find(body[at : at + KEY_LENGTH].decode("latin-1")) is not None:
            return True
    return False


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
