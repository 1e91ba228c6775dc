"""The methods by which django-allauth asks about accounts and logins, for every way of signing in."""

from __future__ import annotations

from datetime import timedelta

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records, perform_password_login
from allauth.account.models import Login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from chatproxy.sign_in.password_login import is_own, landing

SINGLE_SIGN_ON_TIME = timedelta(hours=12)  # then the issuer is asked again, so that a person who has left does not stay


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # the library has no types
    """Rules for django-allauth: nobody can register an account, and redirects lead only to pages of this server."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Returns False, since nobody can register: accounts are made by administrators and by single sign-on."""
        return False

    def is_safe_url(self, url: str) -> bool:
        """Returns whether people may be sent to a URL: only to one with the host of this request.

        django-allauth itself also allows other hosts.
        """
        return is_own(self.request, url)

    def get_client_ip(self, request: HttpRequest) -> str:
        """Returns the client's address, which a trusted proxy may have named."""
        return str(request.META.get("REMOTE_ADDR", ""))

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Returns the URL that people are sent to after a login if they have not asked for another page."""
        return landing(request.user, "")

    def post_login(self, request: HttpRequest, user: User, *, redirect_url: str | None, **_: object) -> HttpResponse:
        """Sends a person who has just signed in to the next page.

        A session that began by single sign-on ends after twelve hours, any other by Django's rules.
        """
        records = get_authentication_records(request, user)
        is_single_sign_on = any(record["method"] == "socialaccount" for record in records)
        # A moment, and no number of seconds, which Django would count anew at each change of the session. None is
        # Django's default; a sign-in at the issuer that was begun has left a short time (`views.start`).
        end = timezone.now() + SINGLE_SIGN_ON_TIME
        request.session.set_expiry(end if is_single_sign_on else None)
        wanted = redirect_url if redirect_url and self.is_safe_url(redirect_url) else ""
        return HttpResponseRedirect(landing(user, wanted))


def finish_login(request: HttpRequest, user: User, url: str) -> HttpResponse:
    """Signs in a person whose password was right, and sends them to `url`.

    If the person has a second factor, asks for it first.
    """
    credentials = {"username": user.get_username()}
    answer: HttpResponse = perform_password_login(request, credentials, Login(user=user, redirect_url=url))
    return answer
