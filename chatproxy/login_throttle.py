"""Owns the pace of logins: attempts at the admin are counted per address and per user name, attempts at "My usage" per
address, in PostgreSQL.

An attempt is counted before its password is looked at, so many at once get no further than many in turn. A login takes
its own count back. Too many are answered with 429 until the window is over: the right password too, else a guesser
would learn it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db import InterfaceError, OperationalError
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from chatproxy.database_away import say_so
from chatproxy.models import LoginAttempts
from proxyapi.html import POLICY

WINDOW = timedelta(minutes=15)
PER_NAME = 10
PER_ADDRESS = 30  # an office may have one address
ADMIN_LOGIN, KEY_LOGIN = TRIED = ("admin:login", "my_usage:sign_in")


class LoginThrottle:
    """Middleware, behind the one that checks the CSRF token: a foreign page must not use up a visitor's attempts."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if response.status_code == 302 and (subjects := getattr(request, "login_subjects", None)):
            with suppress(OperationalError, InterfaceError):  # it has come in all the same
                forgive(*subjects)
        return response

    def process_view(
        self, request: HttpRequest, _view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        if request.method != "POST" or match is None or match.view_name not in TRIED:
            return None
        try:
            seconds = self._count(request, match.view_name)
        except (OperationalError, InterfaceError) as error:  # nobody counts, so nobody may try
            return say_so(error)
        if not seconds:
            return None
        facts = {"minutes": math.ceil(seconds / 60)}
        if match.view_name == KEY_LOGIN:
            answer = render(request, "my_usage/throttled.html", facts, status=429)
            answer["Content-Security-Policy"] = POLICY
        else:
            facts = {**admin.site.each_context(request), **facts}
            answer = render(request, "login_throttled.html", facts, status=429)
        answer["Retry-After"] = str(math.ceil(seconds))
        return answer

    def _count(self, request: HttpRequest, view_name: str) -> float:
        """Seconds to wait; 0: go on."""
        LoginAttempts.objects.filter(since__lt=timezone.now() - WINDOW).delete()
        if view_name == ADMIN_LOGIN:
            name, address = subject_of_name(request.POST.get("username", "")), subject_of_address(request)
            seconds = max(count(name, PER_NAME), count(address, PER_ADDRESS))
        else:  # a key has no name to be guessed at
            name, address = "", subject_of_address(request, "address of a key")
            seconds = count(address, PER_ADDRESS)
        if not seconds:
            request.login_subjects = (name, address)  # type: ignore[attr-defined]  # for the way back
        return seconds


def count(subject: str, most: int) -> float:
    """Counts an attempt; returns the seconds until the next one is looked at, or 0 for this one."""
    now = timezone.now()
    known = LoginAttempts.objects.add(subject, now - WINDOW)
    return max(1.0, (known.since + WINDOW - now).total_seconds()) if known.attempts > most else 0.0


def forgive(name: str, address: str) -> None:
    """A login: its name starts anew; its address gets one attempt back, not those that it made for other names."""
    LoginAttempts.objects.filter(subject=name).delete()
    LoginAttempts.objects.filter(subject=address, attempts__gt=0).update(attempts=F("attempts") - 1)


def subject_of_name(name: str) -> str:
    return _digest("name", unicodedata.normalize("NFKC", name).casefold().strip())


def subject_of_address(request: HttpRequest, kind: str = "address") -> str:
    """The client's, as `TRUSTED_PROXIES` let it be known; of IPv6 the network, which one caller has all of."""
    address = request.META.get("REMOTE_ADDR", "")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return _digest(kind, address)
    network = ipaddress.ip_network((parsed, 64 if parsed.version == 6 else 32), strict=False)
    return _digest(kind, str(network))


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "replace")).hexdigest()
