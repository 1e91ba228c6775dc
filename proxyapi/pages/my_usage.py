"""The site "My usage": shows the holder of a key its usage, and a person with an account all of their keys.

The holder sends the key's secret once, in a form, and gets a cookie (`proxyapi.pages.key_sessions`). The pages for a
holder mention no other key and have no link to one. A person with an account signs in at the login page, and gets the
pages of `proxyapi.pages.my_keys`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from proxyapi.keys.callers import Caller
from proxyapi.pages import key_sessions, key_usage, my_keys
from proxyapi.pages.key_sessions import COOKIE, COOKIE_SECONDS, SITE_PATH
from proxyapi.pages.key_usage import KeyFacts
from proxyapi.pages.own_calls import call_pages
from proxyapi.pages.own_calls.call_pages import for_holder, for_owner
from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY

P = ParamSpec("P")
PageView = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def private_page(view: PageView[P]) -> PageView[P]:
    """Decorator for a view of My usage: tells browsers not to store the page, and not to run foreign scripts in it."""

    @wraps(view)
    def answered(request: HttpRequest, /, *args: P.args, **options: P.kwargs) -> HttpResponseBase:
        answer = view(request, *args, **options)
        answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        answer["Cache-Control"] = "no-store"
        patch_vary_headers(answer, ["Cookie"])
        return answer

    return answered


@require_safe
@private_page
def show(request: HttpRequest) -> HttpResponseBase:
    """Shows the usage of the key whose holder is signed in to the site My usage.

    A person who is signed in by an account gets the list of their keys instead, and everybody else the form to sign in.
    """
    entry = key_sessions.find_signed_in(request)
    if entry is None or entry.caller is None:
        if isinstance(request.user, User):
            return my_keys.show(request, request.user)
        return render(request, "my_usage/sign_in.html", {"has_left": COOKIE in request.COOKIES})
    context = key_usage.page_context(request, _facts_of(entry.caller, entry.is_newest), reverse("my_usage:data"))
    context |= {"valid_until": entry.ends_at, "is_rotated": not entry.is_newest}
    return render(request, "my_usage/usage.html", context)


@require_safe
@private_page
def data(request: HttpRequest) -> HttpResponse:
    """Returns the newest data for an open page of the site My usage as JSON; 401 once the sign-in has ended."""
    entry = key_sessions.find_signed_in(request)
    if entry is None or entry.caller is None:
        return JsonResponse({"error": "Sign in again."}, status=401)
    return key_usage.data_response(request, _facts_of(entry.caller, entry.is_newest))


def _facts_of(caller: Caller, sees_calls: bool) -> KeyFacts:
    """Returns the facts for the usage page of a key's holder; they cover all calls of the key, whoever made them.

    `sees_calls` says whether the page may show single calls. It may not if the holder signed in with the old secret of
    a rotated key: perhaps the key was rotated to keep this person out.
    """
    facts = KeyFacts.of(caller, is_own=True, sees_calls=sees_calls)
    return replace(facts, calls_url=reverse("my_usage:calls"))


@require_POST
@sensitive_post_parameters("key")
@private_page
def sign_in(request: HttpRequest) -> HttpResponse:
    """Signs in the holder of a key by the key's secret: sets a cookie, and redirects to the usage of the key.

    If the secret is not valid, shows the form again, with status 403.
    """
    # The project's middleware limits how often a secret may be tried.
    text = key_sessions.secret_of(request.POST.get("key", ""))
    caller = key_sessions.find_caller(text)
    if caller is None:
        return render(request, "my_usage/sign_in.html", {"is_refused": True}, status=403)
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.set_cookie(
        COOKIE,
        key_sessions.sign(caller.name, text),
        max_age=COOKIE_SECONDS,
        path=SITE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return answer


@require_POST
@private_page
def sign_out(request: HttpRequest) -> HttpResponse:
    """Signs out of My usage whoever is signed in: the holder of a key, the person with an account, or both."""
    # Some pages are chosen by the key, others by the account. Whoever leaves one of them leaves nothing open behind.
    if isinstance(request.user, User):
        logout(request)
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.delete_cookie(COOKIE, path=SITE_PATH, samesite="Strict")
    return answer


app_name = "my_usage"
urlpatterns = [
    path("", show, name="show"),
    path("data", data, name="data"),
    path("sign-in", sign_in, name="sign_in"),
    path("sign-out", sign_out, name="sign_out"),
    path("calls/", private_page(for_holder(call_pages.show_calls)), name="calls"),
    path("calls/export.csv", private_page(for_holder(call_pages.export)), name="export"),
    path("calls/<uuid:request_id>/", private_page(for_holder(call_pages.show_call)), name="call"),
    path("keys/make", private_page(my_keys.make), name="make"),
    path("keys/<int:key_id>/", private_page(my_keys.usage), name="key"),
    path("keys/<int:key_id>/data", private_page(my_keys.data), name="key_data"),
    path("keys/<int:key_id>/calls/", private_page(for_owner(call_pages.show_calls)), name="key_calls"),
    path("keys/<int:key_id>/calls/export.csv", private_page(for_owner(call_pages.export)), name="key_export"),
    path("keys/<int:key_id>/calls/<uuid:request_id>/", private_page(for_owner(call_pages.show_call)), name="key_call"),
    path("keys/<int:key_id>/rotate", private_page(my_keys.rotate), name="rotate"),
    path("keys/<int:key_id>/revoke", private_page(my_keys.revoke), name="revoke"),
    path("keys/<int:key_id>/budget", private_page(my_keys.set_budget), name="set_budget"),
]
