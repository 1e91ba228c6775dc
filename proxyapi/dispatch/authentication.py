"""Finds the key of a request, and its caller. The keyring knows the caller of a key, in memory and in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import TypeVar, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.exceptions import InvalidBearer, InvalidKey
from proxyapi.key_names import ACCESS_TOKEN_NAME
from proxyapi.keys.keyring import Caller, keyring

T = TypeVar("T")


class SecurityKeyAuthentication(BaseAuthentication):
    """Takes the key from `security_key` in the body, the form or the query, `X-Security-Key`, or a bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        candidates = (
            cast(ProxyRequest, request).data.get("security_key"),
            request.query_params.get("security_key"),
            request.META.get("HTTP_X_SECURITY_KEY"),
            _bearer(request),
        )
        return find_caller(candidates), None


class BearerAuthentication(BaseAuthentication):
    """Takes the key of a call to `/v1` from where clients of OpenAI's API send it: the bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        try:
            return find_caller((_bearer(request),)), None
        except InvalidKey:
            raise InvalidBearer from None


class AccessTokenAuthentication(BaseAuthentication):
    """Takes the access token, for pages that show the server's state, from the query or the bearer token."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        check_secret((request.query_params.get("access_token"), _bearer(request)), settings.ACCESS_TOKEN)
        return Caller(ACCESS_TOKEN_NAME), None


def find_caller(candidates: tuple[object, ...]) -> Caller:
    """Returns the caller of the first key that is given.

    Raises:
        InvalidKey: no key is given, or it is unknown, expired or revoked; the error does not say which.
    """
    given = _first_given(candidates)
    caller = keyring.find(given if isinstance(given, str) else "")
    if caller is None:
        raise InvalidKey
    return caller


def check_secret(candidates: tuple[object, ...], secret: str | None) -> None:
    """Checks that the first value that is given is the secret. If no secret is configured, nobody passes.

    Raises:
        InvalidKey: no value is given, or it is wrong; the error does not say which.
    """
    given = _first_given(candidates)
    expected = (secret or "").encode()
    matches = hmac.compare_digest(str(given).encode("utf-8", "replace"), expected)
    if not (matches and expected and isinstance(given, str)):
        raise InvalidKey


def caller_without_body(request: ProxyRequest) -> Caller | None:
    """Returns the caller of the key in the query or in a header; None if there is no key, or it is not valid.

    A key in the body takes precedence (`names_another_key`), but this one is known before the body is read.
    """
    call = request.call_request  # DRF's request looks each attribute up twice
    candidates = (call.GET.get("security_key"), call.META.get("HTTP_X_SECURITY_KEY"), _bearer(call))
    given = _first_given(candidates)
    return keyring.find(given) if given else None


def names_another_key(request: ProxyRequest, caller: Caller) -> bool:
    """Returns whether the body has a key that is not one of `caller`."""
    given = request.data.get("security_key")
    if given is None:
        return False
    found = keyring.find(given) if isinstance(given, str) else None
    return found is None or found.name != caller.name


def _first_given(candidates: Iterable[T | None]) -> T | str:
    """Returns the first candidate that is not None; an empty text if there is none."""
    return next((candidate for candidate in candidates if candidate is not None), "")


def _bearer(request: Request | CallRequest) -> str | None:
    """Returns the bearer token of a request (RFC 6750)."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
