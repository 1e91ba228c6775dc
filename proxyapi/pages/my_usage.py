"""Owns "My usage": the pages that a key opens for its owner, without the admin's login.

The key is sent once, in a form. Then a cookie has the key's name, signed for the one text of the key that was sent:
what a rotation, a revocation or its time has ended is in the keyring no longer, and opens nothing from then on. Nothing
on these pages leads to, or tells of, another key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from proxyapi import sealing
from proxyapi.keys.keyring import Caller, Entry, keyring
from proxyapi.pages import key_usage
from proxyapi.pages.key_usage import KeyFacts
from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY

COOKIE = "chatproxy_my_usage"
COOKIE_SECONDS = 3600
FOLDER = "/my-usage/"
SALT = "proxyapi.my_usage"
LONGEST_KEY = 500
View = Callable[[HttpRequest], HttpResponse]


def private_page(view: View) -> View:
    """Nothing of it is kept by a browser, nor run that is not ours."""

    @wraps(view)
    def answered(request: HttpRequest) -> HttpResponse:
        answer = view(request)
        answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        answer["Cache-Control"] = "no-store"
        patch_vary_headers(answer, ["Cookie"])
        return answer

    return answered


@require_safe
@private_page
def show(request: HttpRequest) -> HttpResponse:
    entry = find_signed_in(request)
    if entry is None or entry.caller is None:
        return render(request, "my_usage/sign_in.html", {"has_left": COOKIE in request.COOKIES})
    facts = key_usage.page(request, KeyFacts.of(entry.caller, is_own=True), reverse("my_usage:data"))
    return render(request, "my_usage/usage.html", {**facts, "valid_until": entry.ends_at})


@require_safe
@private_page
def data(request: HttpRequest) -> HttpResponse:
    entry = find_signed_in(request)
    if entry is None or entry.caller is None:
        return JsonResponse({"error": "Sign in again."}, status=401)
    return key_usage.data(request, KeyFacts.of(entry.caller, is_own=True))


@require_POST
@sensitive_post_parameters("key")
@private_page
def sign_in(request: HttpRequest) -> HttpResponse:
    """The pace of attempts is the business of the project's middleware."""
    text = request.POST.get("key", "").strip()[:LONGEST_KEY]
    caller = keyring.find(text)
    if caller is None:
        return render(request, "my_usage/sign_in.html", {"is_refused": True}, status=403)
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.set_cookie(
        COOKIE,
        signing.dumps(caller.name, salt=_salt(sealing.digest(text))),
        max_age=COOKIE_SECONDS,
        path=FOLDER,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return answer


@require_POST
@private_page
def sign_out(request: HttpRequest) -> HttpResponse:
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.delete_cookie(COOKIE, path=FOLDER, samesite="Strict")
    return answer


def find_caller(text: str) -> Caller | None:
    """Returns the key whose text was sent in the form."""
    return keyring.find(text.strip()[:LONGEST_KEY])


def digests_in_force(name: str) -> list[str]:
    """Returns the digests of a key's texts that open these pages now: none, one, or after a rotation two."""
    return list(keyring.named(name))


def find_signed_in(request: HttpRequest) -> Entry | None:
    """The key of the cookie, if the text that it was made with is still in force: the keyring is asked each time."""
    cookie = request.COOKIES.get(COOKIE, "")
    for digest, entry in keyring.named(_claimed_name(cookie)).items():
        try:
            signing.loads(cookie, salt=_salt(digest), max_age=COOKIE_SECONDS)
        except signing.BadSignature:
            continue
        return entry
    return None


def _claimed_name(cookie: str) -> str:
    """Whose it says that it is; not to be believed before the signature has been looked at."""
    try:
        name = signing.JSONSerializer().loads(signing.b64_decode(cookie.partition(":")[0].encode()))
    except (ValueError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _salt(digest: str) -> str:
    return f"{SALT} {digest}"


app_name = "my_usage"
urlpatterns = [
    path("", show, name="show"),
    path("data", data, name="data"),
    path("sign-in", sign_in, name="sign_in"),
    path("sign-out", sign_out, name="sign_out"),
]
