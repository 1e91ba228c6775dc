"""The site "My usage", which shows the holder of a key its usage, without a login to the admin.

The key's secret is sent once, in a form. Then a cookie has the key's name, signed with a salt that is made from the
digest of the secret. Once the secret has been rotated, revoked, or has expired, the keyring no longer accepts it, and
the cookie is not valid either. No page of the site has a link to another key, or mentions one.
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
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import KeyInForce, keyring
from proxyapi.pages import key_usage
from proxyapi.pages.key_usage import KeyFacts
from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY

COOKIE = "chatproxy_my_usage"
COOKIE_SECONDS = 3600
SITE_PATH = "/my-usage/"
SALT = "proxyapi.my_usage"
MAX_KEY_CHARACTERS = 500
PageView = Callable[[HttpRequest], HttpResponse]


def private_page(view: PageView) -> PageView:
    """Decorator for a view of the site My usage: tells browsers not to store the page or run foreign scripts in it."""

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
    """Shows the usage of the key whose holder is signed in to the site My usage, or the form to sign in."""
    entry = find_signed_in(request)
    if entry is None or entry.caller is None:
        return render(request, "my_usage/sign_in.html", {"has_left": COOKIE in request.COOKIES})
    context = key_usage.page_context(request, KeyFacts.of(entry.caller, is_own=True), reverse("my_usage:data"))
    return render(request, "my_usage/usage.html", {**context, "valid_until": entry.ends_at})


@require_safe
@private_page
def data(request: HttpRequest) -> HttpResponse:
    """Returns the newest data for an open page of the site My usage as JSON; 401 once the sign-in has ended."""
    entry = find_signed_in(request)
    if entry is None or entry.caller is None:
        return JsonResponse({"error": "Sign in again."}, status=401)
    return key_usage.data_response(request, KeyFacts.of(entry.caller, is_own=True))


@require_POST
@sensitive_post_parameters("key")
@private_page
def sign_in(request: HttpRequest) -> HttpResponse:
    """Signs a person in to the site My usage with the secret of a key, sets a cookie, and redirects to the usage.

    If the secret is not valid, shows the form again, with status 403.
    """
    # The project's middleware limits how often a secret may be tried.
    text = request.POST.get("key", "").strip()[:MAX_KEY_CHARACTERS]
    caller = keyring.find(text)
    if caller is None:
        return render(request, "my_usage/sign_in.html", {"is_refused": True}, status=403)
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.set_cookie(
        COOKIE,
        signing.dumps(caller.name, salt=_salt(sealing.digest(text))),
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
    """Signs the holder of a key out of the site My usage, by deleting the site's cookie."""
    answer = HttpResponseRedirect(reverse("my_usage:show"))
    answer.delete_cookie(COOKIE, path=SITE_PATH, samesite="Strict")
    return answer


def find_caller(text: str) -> Caller | None:
    """Returns the caller whose key has the secret in the sign-in form; None if no key has it."""
    return keyring.find(text.strip()[:MAX_KEY_CHARACTERS])


def digests_in_force(name: str) -> list[str]:
    """Returns the digests of the secrets with which the holder of the key `name` can sign in to My usage now.

    The list is empty for an invalid key. It has two digests for a rotated key whose old secret is still valid.
    """
    return list(keyring.in_force(name))


def find_signed_in(request: HttpRequest) -> KeyInForce | None:
    """Returns the key whose holder is signed in to My usage, with the expiry of its secret; None if nobody is."""
    # The cookie is signed with a secret of the key, and becomes invalid together with it.
    cookie = request.COOKIES.get(COOKIE, "")
    for digest, entry in keyring.in_force(_claimed_name(cookie)).items():
        try:
            signing.loads(cookie, salt=_salt(digest), max_age=COOKIE_SECONDS)
        except signing.BadSignature:
            continue
        return entry
    return None


def _claimed_name(cookie: str) -> str:
    """Reads the key's name from a cookie of My usage without checking the signature; empty if there is none."""
    # Anybody can write any name into a cookie: the signature must still be checked.
    try:
        name = signing.JSONSerializer().loads(signing.b64_decode(cookie.partition(":")[0].encode()))
    except (ValueError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _salt(digest: str) -> str:
    """Returns the salt for signing the cookies that belong to the secret with this digest."""
    return f"{SALT} {digest}"


app_name = "my_usage"
urlpatterns = [
    path("", show, name="show"),
    path("data", data, name="data"),
    path("sign-in", sign_in, name="sign_in"),
    path("sign-out", sign_out, name="sign_out"),
]
