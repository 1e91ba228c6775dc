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
    """Authentication of a call of the simple API by its security key.

    The key is the first that is given of: `security_key` in the body or the form, `security_key` in the query, the
    header `X-Security-Key`, and the bearer token.
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
    """Authentication of a call to `/v1`, by its bearer token, where clients of OpenAI's API send their key."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        try:
            return find_caller((_bearer(cast(ProxyRequest, request).call_request),)), None
        except InvalidKey:
            raise InvalidBearer from None


class AccessTokenAuthentication(BaseAuthentication):
    """Authentication of a request for a page about the server's state, by the token in the setting `ACCESS_TOKEN`.

    The request must have this token as `access_token` in its query, or as its bearer token.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        check_secret((request.query_params.get("access_token"), _bearer(request)), settings.ACCESS_TOKEN)
        return Caller(ACCESS_TOKEN_NAME), None


def find_caller(candidates: tuple[object, ...]) -> Caller:
    """Returns the facts about the key in a request, as a `Caller`.

    A request may have its key in several places. `candidates` has the value in each place; None where there is none.
    The first value that is not None is taken as the key.

    Raises:
        InvalidKey: no key is given, or the key is unknown, expired or revoked; the error does not say which.
    """
    given = _first_given(candidates)
    caller = keyring.find(given if isinstance(given, str) else "")
    if caller is None:
        raise InvalidKey
    return caller


def check_secret(candidates: tuple[object, ...], secret: str | None) -> None:
    """Checks that the secret in a request is the configured `secret`.

    `candidates` are the values found in the places where a request may have the secret; the first that is not None
    counts. If no secret is configured, the check always fails.

    Raises:
        InvalidKey: no value is given, or the value is wrong; the error does not say which.
    """
    given = _first_given(candidates)
    expected = (secret or "").encode()
    matches = hmac.compare_digest(str(given).encode("utf-8", "replace"), expected)
    if not (matches and expected and isinstance(given, str)):
        raise InvalidKey


def caller_without_body(request: ProxyRequest) -> Caller | None:
    """Finds the caller by the key in the request's query or headers; returns None if there is no valid key.

    This needs no body. If the body has another key, that one takes precedence (`names_another_key` finds out).
    """
    call = request.call_request  # faster than DRF's request, which looks each attribute up twice
    candidates = (call.GET.get("security_key"), call.META.get("HTTP_X_SECURITY_KEY"), _bearer(call))
    given = _first_given(candidates)
    return keyring.find(given) if given else None


def names_another_key(request: ProxyRequest, caller: Caller) -> bool:
    """Returns whether the request's body has a `security_key` that is not a valid key of `caller`."""
    given = request.data.get("security_key")
    return given is not None and not is_key_of(given, caller)


def is_key_of(given: object, caller: Caller) -> bool:
    """Returns whether a value in a request is a valid key that belongs to `caller`."""
    found = keyring.find(given) if isinstance(given, str) else None
    return found is not None and found.name == caller.name


def _first_given(candidates: Iterable[T | None]) -> T | str:
    """Returns the first candidate that is not None; an empty string if all candidates are None."""
    return next((candidate for candidate in candidates if candidate is not None), "")


def _bearer(request: Request | CallRequest) -> str | None:
    """Returns the bearer token in the request's `Authorization` header (RFC 6750); None if there is none."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
