"""The limits of login attempts at the admin and at "My usage", counted in PostgreSQL.

An attempt is counted before its password is checked, so that many attempts at the same time gain nothing. Beyond a
limit the answer is 429 until the window of 15 minutes is over, even for the right password: otherwise a guesser would
learn that the password is right.

An attempt is counted for these subjects in turn, up to the first one whose limit refuses it:

* a device on which this user has signed in before (`chatproxy.page_protection.known_device`): 10 attempts. Such an
  attempt counts for the device only, so strangers cannot keep out somebody who has signed in before;
* the /48 of an IPv6 address: 120 attempts. A hosting provider gives a customer a /48, which has 65,536 networks;
* the network, one IPv4 address or a /64 of IPv6: 30 attempts, since an office may have one address;
* the user name together with this network: 10 attempts;
* the user name, from everywhere together: 1000 attempts.

An attempt to enter a second factor, or a password that is asked for again, for example to change it, is counted for the
account (10 attempts) and for the network.

A guesser with N networks has the smaller of 10 N and 1000 attempts at one name in 15 minutes, at most 35 million in a
year. That is little against a password that passes the validators: 12 characters, and none of the common ones. A
guesser with a hundred networks can use up the attempts of a name. Then only devices on which nobody has signed in
before have to wait. A successful login is not counted, and resets the count of its name together with its network.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from chatproxy.models import LoginAttempts, LoginLimit
from chatproxy.page_protection import known_device
from chatproxy.page_protection.database_unavailable import unavailable_page
from chatproxy.page_protection.known_device import ADMIN_DEVICE, KEY_DEVICE
from proxyapi import sealing
from proxyapi.pages import key_sessions
from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY
from proxyapi.unauthenticated.client_network import client_network, client_site
from usage.metric_counters import counters

WINDOW = timedelta(minutes=15)
PER_DEVICE = 10
PER_SITE = 120
PER_NETWORK = 30
PER_NAME_AND_NETWORK = 10
PER_NAME = 1000
REFUSED = "login_throttled"  # in chatproxy_refused_total; alerts are about this count, too
ADMIN_LOGIN, KEY_LOGIN = "admin:login", "my_usage:sign_in"
# The forms that ask a person, who has shown the password or is signed in, for another proof.
SECOND_STEP = "mfa_authenticate"
PROOFS = (SECOND_STEP, "account_reauthenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn")
CHANGE_VIEW = "admin:password_change"  # the form in which people change their own password, and enter the old one
LOGIN_VIEWS = (ADMIN_LOGIN, KEY_LOGIN, *PROOFS, CHANGE_VIEW)
PENDING_LOGIN = "account_login"  # where a session has the login whose second factor is missing (django-allauth)
SHOWN_PROOFS = "account_authentication_methods"  # where a session lists the proofs that were right (django-allauth)
# The forms that change a password: the device on which one is sent gets a new cookie.
PASSWORD_FORMS = (CHANGE_VIEW, "admin:auth_user_password_change")


class LoginThrottle:
    """Middleware that limits how often somebody may try to sign in, at the admin and at "My usage".

    Only failed attempts count in the end: a successful one is taken out of the counts. A device on which somebody has
    signed in gets a cookie, and its later attempts are counted apart from those of others.
    """

    # It stands behind the CSRF check: a page of another site must not use up a visitor's attempts.
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        match = request.resolver_match
        if request.method != "POST" or response.status_code != 302 or match is None:
            return response
        with suppress(OperationalError, InterfaceError):  # the login or the change of the password has succeeded anyway
            if (limits := getattr(request, "login_limits", ())) and has_succeeded(request, match.view_name):
                take_back(limits)
            if match.view_name in (ADMIN_LOGIN, SECOND_STEP, *PASSWORD_FORMS):
                remember_user(request, response)
            elif match.view_name == KEY_LOGIN:
                remember_key(request, response)
        return response

    def process_view(self, request: HttpRequest, _view: object, _args: object, _kwargs: object) -> HttpResponse | None:
        """Counts a login attempt before the password or key is checked; returns a refusal if there were too many.

        Returns None if the attempt is allowed, and for a request that is no login attempt. The refusal is a page with
        status 429. If the database does not answer, it is a page with status 503.
        """
        match = request.resolver_match
        if request.method != "POST" or match is None or match.view_name not in LOGIN_VIEWS:
            return None
        try:
            limits = limits_of(match.view_name, request)
            seconds = count_attempt(limits)
        except (OperationalError, InterfaceError) as error:  # without a count, nobody may try to sign in
            return unavailable_page(error)
        if not seconds:
            request.login_limits = limits  # type: ignore[attr-defined]  # read in __call__, once the view has answered
            request.proofs_before = shown_proofs(request)  # type: ignore[attr-defined]  # likewise
            return None
        counters.count_refusal(REFUSED)
        facts = {"minutes": math.ceil(seconds / 60)}
        if match.view_name == KEY_LOGIN:
            answer = render(request, "my_usage/throttled.html", facts, status=429)
            answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        else:
            facts = {**admin.site.each_context(request), **facts}
            answer = render(request, "login_throttled.html", facts, status=429)
        answer["Retry-After"] = str(math.ceil(seconds))
        return answer


def has_succeeded(request: HttpRequest, view_name: str) -> bool:
    """Returns whether an attempt to sign in succeeded; for attempts that were answered with a redirect only.

    Usually a redirect means success. But forms that ask for a further proof, such as a code, also redirect people who
    may not use them. In these forms (`PROOFS`), an attempt has succeeded only if the session has a new proof. The form
    `CHANGE_VIEW` redirects people who may not open the admin.
    """
    if view_name == CHANGE_VIEW:
        return admin.site.has_permission(request)
    if view_name not in PROOFS:
        return True
    proofs = shown_proofs(request)
    return bool(proofs) and proofs != getattr(request, "proofs_before", None)


def shown_proofs(request: HttpRequest) -> list[object]:
    """Returns a list of the proofs (such as a password or code) that were right in this session, with their times."""
    return list(request.session.get(SHOWN_PROOFS) or ())


def limits_of(view_name: str, request: HttpRequest) -> list[LoginLimit]:
    """Returns the limits on an attempt at one of the login forms, in the order in which they are applied."""
    if view_name == KEY_LOGIN:
        return limits_of_key(request)
    return limits_of_admin(request) if view_name == ADMIN_LOGIN else limits_of_proof(request)


def limits_of_proof(request: HttpRequest) -> list[LoginLimit]:
    """Returns the limits on attempts to enter a second factor, or a password that is asked for again.

    These are the limit of the account, if it is known, and those of the client's network. Attempts at an account are
    counted together wherever they come from, since a code has only six digits.
    """
    pending = request.session.get(PENDING_LOGIN)
    named = pending.get("user_pk") if isinstance(pending, dict) else None
    who = request.user.pk if request.user.pk is not None else named
    of_account = [LoginLimit(_digest("proof", str(who)), PER_DEVICE, is_own=True)] if who is not None else []
    return [*of_account, *_limits_of_address(request, "address of a proof")]


def limits_of_admin(request: HttpRequest) -> list[LoginLimit]:
    """Returns the limits on an attempt to sign in to the admin, in the order in which they are applied.

    If this user has signed in on the client's device before, only the limit of that device applies. Otherwise there are
    limits for the client's network, for the user name from this network, and for the user name from everywhere.
    """
    name = normal_name(request.POST.get("username", ""))
    device = ADMIN_DEVICE.read(request.COOKIES)
    user = known_device.user_of(device)
    if device is not None and user is not None and normal_name(user.get_username()) == name:
        return [LoginLimit(_digest("device", device.device_id), PER_DEVICE, is_own=True)]
    network = client_network(_address(request))
    return [
        *_limits_of_address(request, "address"),
        LoginLimit(_digest("name from", f"{network} {name}"), PER_NAME_AND_NETWORK, is_own=True),
        LoginLimit(_digest("name", name), PER_NAME),
    ]


def limits_of_key(request: HttpRequest) -> list[LoginLimit]:
    """Returns the limits on an attempt to sign in to "My usage", in the order in which they are applied.

    If somebody has signed in on the client's device before, with a key that is still valid, only the limit of that
    device applies. Otherwise the limits of the client's network apply.
    """
    device = KEY_DEVICE.read(request.COOKIES)
    if device is not None and known_device.has_valid_key(device):
        return [LoginLimit(_digest("device of a key", device.device_id), PER_DEVICE, is_own=True)]
    # There is no limit by name, because a key is entered without one.
    return _limits_of_address(request, "address of a key")


def count_attempt(limits: list[LoginLimit]) -> float:
    """Counts a login attempt against its limits; returns the seconds to wait, or 0 if the attempt is allowed.

    First deletes old counts.

    Raises:
        django.db.Error: the database does not answer.
    """
    LoginAttempts.objects.forget(WINDOW)
    seconds = LoginAttempts.objects.add(limits, WINDOW)
    return 0.0 if seconds is None else max(1.0, seconds)


def take_back(limits: list[LoginLimit]) -> None:
    """Removes a successful login from the counts of login attempts.

    The counts that belong to the user (of the device, the account, or the user name from this network) are set back to
    zero. All others are lowered by one.
    """
    LoginAttempts.objects.filter(subject__in=[one.subject for one in limits if one.is_own]).delete()
    shared = [one.subject for one in limits if not one.is_own]
    LoginAttempts.objects.filter(subject__in=shared, attempts__gt=0).update(attempts=F("attempts") - 1)


def remember_user(request: HttpRequest, response: HttpResponseBase) -> None:
    """Sets a new device cookie on the response to a user who has just signed in to the admin or changed a password."""
    users = get_user_model().objects  # a new query: the password may have changed since the request began
    if request.user.pk is not None and (user := users.filter(pk=request.user.pk).first()):
        # By the cookie, later login attempts on this device are counted separately from those of strangers.
        ADMIN_DEVICE.write(response, str(user.pk), user.password)


def remember_key(request: HttpRequest, response: HttpResponseBase) -> None:
    """Sets a new device cookie on the response to a person who has just signed in to "My usage" with a key."""
    text = request.POST.get("key", "").strip()
    if caller := key_sessions.find_caller(text):
        # By the cookie, later login attempts on this device are counted separately from those of strangers.
        KEY_DEVICE.write(response, caller.name, sealing.digest(text))


def normal_name(name: str) -> str:
    """Converts a user name to the form that login attempts are counted for: `Admin` to `admin`."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _limits_of_address(request: HttpRequest, kind: str) -> list[LoginLimit]:
    """Returns the limits on login attempts for the client's network and, for IPv6, for its /48 network.

    `kind` is the kind of attempt, such as one at the admin; each kind is counted separately.
    """
    address = _address(request)
    network, site = client_network(address), client_site(address)
    limits = [LoginLimit(_digest(kind, network), PER_NETWORK)]
    return limits if site == network else [LoginLimit(_digest(kind, site), PER_SITE), *limits]


def _address(request: HttpRequest) -> str:
    """Returns the IP address of a request's client, which a trusted proxy may have named."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _digest(kind: str, value: str) -> str:
    """Returns the digest that stands for a name, a network or a device in the counts of login attempts.

    `kind` makes the digests of a name, a network and a device different even if their texts are the same.
    """
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "replace")).hexdigest()
