"""Finds the key of a request, and the caller to whom the key belongs, in memory and in constant time.

An API token is not a key, but a secret for managing keys; it is looked up in the database.
"""

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
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import keyring
from proxyapi.models import ApiToken, may_be_api_token

T = TypeVar("T")


class SecurityKeyAuthentication(BaseAuthentication):
    """Authentication of a call of the simple API by its security key.

    The key is the first of these that the request has: `security_key` in the body or form, `security_key` in the query,
    the header `X-Security-Key`, the bearer token.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        candidates = (
            cast(ProxyRequest, request).data.get("security_key"),
            request.query_params.get("security_key"),
            request.META.get("HTTP_X_SECURITY_KEY"),
            _bearer(request),
        )
        return find_caller(candidates), None


class BearerAuthentication(BaseAuthentication):
    """Authentication of a call to `/v1` by its bearer token, as clients of OpenAI's API send their key."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        try:
            return find_caller((_bearer(cast(ProxyRequest, request).call_request),)), None
        except InvalidKey:
            raise InvalidBearer from None


class AccessTokenAuthentication(BaseAuthentication):
    """Authentication of a request for a status page by the token in the setting `ACCESS_TOKEN`.

    The request has the token as `access_token` in its query, or as its bearer token.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        check_secret((request.query_params.get("access_token"), _bearer(request)), settings.ACCESS_TOKEN)
        return Caller(ACCESS_TOKEN_NAME), None


class ApiTokenAuthentication(BaseAuthentication):
    """Authentication of a request to the management API by the API token that it sends as bearer token.

    Looks the token up in the database.
    """

    def check_form(self, request: Request) -> None:
        """Checks, without the database, that the bearer token of a request can be an API token of this gateway.

        Raises:
            InvalidBearer: there is no token, or this gateway has not made it.
        """
        if not may_be_api_token(_bearer(request) or ""):
            raise InvalidBearer

    def authenticate(self, request: Request) -> tuple[Caller, ApiToken]:
        token = ApiToken.objects.find_valid(_bearer(request) or "")
        if token is None:
            raise InvalidBearer
        return Caller(f"API token {token.name}"), token


def find_caller(candidates: tuple[object, ...]) -> Caller:
    """Returns the caller to whom a request's key belongs.

    `candidates` are the values in all places where a request may have a key, None for an empty place. The first value
    that is not None is the key.

    Raises:
        InvalidKey: there is no key, or it is unknown, expired or revoked; the error does not say which.
    """
    given = _first_given(candidates)
    caller = keyring.find(given if isinstance(given, str) else "")
    if caller is None:
        raise InvalidKey
    return caller


def check_secret(candidates: tuple[object, ...], secret: str | None) -> None:
    """Checks that a request has the configured `secret`; always fails if no secret is configured.

    `candidates` are the values in all places where a request may have the secret, None for an empty place. The first
    value that is not None counts.

    Raises:
        InvalidKey: there is no value, or it is wrong; the error does not say which.
    """
    given = _first_given(candidates)
    expected = (secret or "").encode()
    matches = hmac.compare_digest(str(given).encode("utf-8", "replace"), expected)
    if not (matches and expected and isinstance(given, str)):
        raise InvalidKey


def caller_without_body(request: ProxyRequest) -> Caller | None:
    """Returns the caller for the key in the request's query or headers, not its body; None without a valid key.

    The key is the first of these that the request has: `security_key` in the query, the header `X-Security-Key`, the
    bearer token.
    """
    # Another key in the body takes precedence (`names_another_key`).
    call = request.call_request  # faster than DRF's request, which looks each attribute up twice
    candidates = (call.GET.get("security_key"), call.META.get("HTTP_X_SECURITY_KEY"), _bearer(call))
    given = _first_given(candidates)
    return keyring.find(given) if given else None


def names_another_key(request: ProxyRequest, caller: Caller) -> bool:
    """Returns whether the request's body has a `security_key` that is not a key of `caller`."""
    given = request.data.get("security_key")
    return given is not None and not is_key_of(given, caller)


def is_key_of(given: object, caller: Caller) -> bool:
    """Returns whether a value from a request is a valid key of `caller`."""
    found = keyring.find(given) if isinstance(given, str) else None
    return found is not None and found.name == caller.name


def _first_given(candidates: Iterable[T | None]) -> T | str:
    """Returns the first of `candidates` (the values of places where a request may have a key) that is not None.

    If all are None, returns an empty string.
    """
    return next((candidate for candidate in candidates if candidate is not None), "")


def _bearer(request: Request | CallRequest) -> str | None:
    """Returns the bearer token in the request's `Authorization` header (RFC 6750); None if there is none."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
