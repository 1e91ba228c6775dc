"""The login page at `/admin/login/`, for everybody who has an account: staff go to the admin, others to "My usage".

It replaces the admin's own login page, which lets only staff in. The page on which staff change their own password
differs from the admin's in its entry in the audit log. With `SECOND_FACTOR`, a person who has set up a second
factor is asked for it before they are signed in.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from unfold.forms import AuthenticationForm as StaffForm
from unfold.sites import UnfoldAdminSite

from chatproxy.accounts.own_changes import log_own_change


class FinishLogin(Protocol):
    """Interface of a function that signs in a person whose password was right, perhaps after a second factor.

    Its answer sends the person to `url`, or asks for the second factor.
    """

    def __call__(self, request: HttpRequest, user: User, url: str) -> HttpResponse: ...


class PersonForm(StaffForm):  # type: ignore[misc]  # unfold has no types
    """The form of the login page. It looks like the admin's, but accepts people who are not staff, too."""

    def confirm_login_allowed(self, user: User) -> None:
        """Checks that a person whose password was right may sign in.

        Raises:
            ValidationError: the account is not active.
        """
        AuthenticationForm.confirm_login_allowed(self, user)


class PasswordLogin(LoginView):
    """View of the login page: signs in a person who sends the right password, and sends them to the next page."""

    template_name = "admin/login.html"
    authentication_form = PersonForm

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Signs the person in and sends them to the next page, or asks for their second factor first."""
        user = form.get_user()
        url = landing(user, self.get_redirect_url())
        if not settings.USES_ALLAUTH:
            super().form_valid(form)
            return HttpResponseRedirect(url)
        # By its name, since without the settings for it the library behind it cannot be imported.
        finish: FinishLogin = import_string("chatproxy.sign_in.library_hooks.finish_login")
        return finish(self.request, user, url)


@never_cache
def login(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:
    """Shows the login page (GET), or signs a person in (POST).

    Somebody who is signed in already is sent to their next page. Staff who have asked for a certain page see the login
    page nevertheless: they may lack the right for that page, and want to sign in as somebody else. `extra_context` has
    further values for the template.
    """
    if request.method == "GET" and request.user.is_authenticated:
        wanted = request.GET.get(REDIRECT_FIELD_NAME, "")
        if not request.user.is_staff or not wanted:
            return redirect(landing(request.user, wanted if is_own(request, wanted) else ""))
    context = {
        **admin.site.each_context(request),
        "title": "Log in",
        "app_path": request.get_full_path(),
        "username": request.user.get_username(),
        "next": request.GET.get(REDIRECT_FIELD_NAME, ""),
        "single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        **(extra_context or {}),
    }
    request.current_app = admin.site.name  # as Django's admin sets it
    return PasswordLogin.as_view(extra_context=context)(request)


def change_password(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:
    """Shows the form in which staff change their own password (GET), or changes it (POST), which the audit log records.

    `extra_context` has further values for the template.
    """
    with transaction.atomic():
        answer: HttpResponseBase = UnfoldAdminSite.password_change(admin.site, request, extra_context)
        if isinstance(request.user, User) and answer.status_code == HTTPStatus.FOUND:
            log_own_change(request.user, "Changed the own password.")
    return answer


def landing(user: AbstractBaseUser | AnonymousUser, wanted: str) -> str:
    """Returns the path of the page that a person is sent to after the login: `wanted`, or else a default page.

    The default page is the admin for staff, and "My usage" for others. It is used if `wanted`, a path of this server,
    is empty, or if it is a page of the admin and the person is not staff.
    """
    if getattr(user, "is_staff", False):
        return wanted or reverse("admin:index")
    return wanted if wanted and not wanted.startswith(reverse("admin:index")) else reverse("my_usage:show")


def is_own(request: HttpRequest, url: str) -> bool:
    """Returns whether a URL leads to a page of this server, so that people may be sent there."""
    return url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
