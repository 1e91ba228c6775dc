"""Owns who may call: where a call has its key; whose it is, says the keyring, in memory and in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.exceptions import InvalidBearer, InvalidKey
from proxyapi.keys.keyring import Caller, keyring


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
    given = _first_given(candidates)
    caller = keyring.find(given if isinstance(given, str) else "")
    if caller is None:
        raise InvalidKey
    return caller


def check_secret(candidates: tuple[Any, ...], secret: str | None) -> None:
    """Compares the first candidate that is there. No secret configured means nobody may pass.

    Raises:
        InvalidKey: the same for missing and wrong.
    """
    given = _first_given(candidates)
    expected = (secret or "").encode()
    matches = hmac.compare_digest(str(given).encode("utf-8", "replace"), expected)
    if not (matches and expected and isinstance(given, str)):
        raise InvalidKey


def caller_without_body(request: ProxyRequest) -> Caller | None:
    """Whose valid key is the first one in the query or in a header; None if there is none, or another than valid.

    A key in the body counts before these (`names_another_key`), but this one is known before the body is read.
    """
    call = request.call_request  # DRF's request looks each attribute up twice
    candidates = (call.GET.get("security_key"), call.META.get("HTTP_X_SECURITY_KEY"), _bearer(call))
    given = _first_given(candidates)
    return keyring.find(given) if given else None


def names_another_key(request: ProxyRequest, caller: Caller) -> bool:
    """Whether a key in the body is not one of `caller`."""
    given = request.data.get("security_key")
    if given is None:
        return False
    found = keyring.find(given) if isinstance(given, str) else None
    return found is None or found.name != caller.name


def _first_given(candidates: Iterable[Any]) -> Any:
    """The first candidate that is there; an empty text if there is none."""
    return next((candidate for candidate in candidates if candidate is not None), "")


def _bearer(request: Request | CallRequest) -> str | None:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
