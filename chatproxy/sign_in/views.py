"""Our own pages below `/admin/accounts/`: to the issuer and back, and pages to which the library redirects."""

from __future__ import annotations

from urllib.parse import urlencode

from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth import logout as end_session
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from requests import RequestException

from chatproxy.sign_in.password_login import is_own
from chatproxy.sign_in.provider import PROVIDER_ID, Issuer
from chatproxy.sign_in.single_sign_on import refusal

START_SECONDS = 600  # how long a stranger's session is kept, in which a sign-in at the issuer has begun


@require_POST
@never_cache
def start(request: HttpRequest) -> HttpResponse:
    """Sends a person to the issuer, to sign in there; the form field `next` is the page to open after that.

    If the issuer does not answer, shows a page that says so.
    """
    wanted = request.POST.get(REDIRECT_FIELD_NAME, "")
    # The library reads more parameters, with which a link could change what the issuer is asked.
    request.GET = QueryDict(urlencode({REDIRECT_FIELD_NAME: wanted}) if is_own(request, wanted) else "")
    request.POST = QueryDict()
    if not request.user.is_authenticated:
        request.session.set_expiry(START_SECONDS)
    try:
        answer: HttpResponse = OAuth2LoginView.adapter_view(Issuer(request, PROVIDER_ID))(request)
    except (RequestException, OAuth2Error, KeyError, ValueError):  # it does not answer, or not as an issuer does
        return refusal(request, "The sign-in service cannot be reached. Try again, or sign in with your password.")
    # A page, and not a redirect: the Content-Security-Policy of forms (`form-action`) holds for the redirects, too, and
    # the issuer may send people on to any host.
    return render(request, "sign_in/leave.html", {"url": answer["Location"]}) if answer.status_code == 302 else answer


@require_GET
@never_cache
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Handles the return of a person from the issuer: signs them in, or says why that is not possible."""
    try:
        answer: HttpResponse = OAuth2CallbackView.adapter_view(Issuer(request, provider_id))(request)
    except (RequestException, OAuth2Error, KeyError, ValueError):  # what it sent is not what an issuer sends
        return refusal(request, "The sign-in was not completed. Try again; if it fails again, tell an administrator.")
    return answer


def login(request: HttpRequest) -> HttpResponse:
    """Redirects to the gateway's login page; the library expects a login page of its own at this route."""
    return redirect("admin:login")


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """Ends the session, even if the second factor is still missing, and redirects to the login page."""
    end_session(request)
    return redirect("admin:login")


def inactive(request: HttpRequest) -> HttpResponse:
    """Shows a page with status 403 that says that the account is not active; counts the refusal."""
    return refusal(request, "Your account is not active. Ask an administrator.")
