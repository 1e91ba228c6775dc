"""The rights to see the admin's pages, and to see the content of calls.

Whoever may view requests sees times, sizes, tokens, dollars, names of keys and models, and kinds of errors. A further
permission, `BODIES`, is needed to see the content of a call: prompts, answers, the command that makes the call again,
and the texts of errors, because upstream may quote the prompt in them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

PERMISSION = "usage.view_request"
BODIES = "usage.view_requestbody"
ALERTS = "chatproxy.view_alert"
P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def may_see(request: HttpRequest) -> bool:
    """Returns whether the signed-in person may view the logged requests.

    To see the content of requests, such as prompts, a further right is needed (`may_see_bodies`).
    """
    return request.user.has_perm(PERMISSION)


def may_see_bodies(request: HttpRequest) -> bool:
    """Returns whether the signed-in person may view the logged requests with their content, such as prompts."""
    return request.user.has_perms((PERMISSION, BODIES))


def admin_page(view: View[P]) -> View[P]:
    """Decorates a view of the admin: only people who may view logged requests get the page.

    People who are not signed in as staff are sent to the login page; staff without the right get `PermissionDenied`.
    """

    @wraps(view)
    def checked(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not may_see(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(checked)


def render_page(request: HttpRequest, template: str, title: str, **context: object) -> HttpResponseBase:
    """Renders a page of the admin, and returns the HTTP response.

    The template gets `title`, the values in `context`, `sees_bodies` (the result of `may_see_bodies`), and the values
    that all pages of the admin need.
    """
    own = {"title": title, "sees_bodies": may_see_bodies(request), **context}
    return render(request, template, {**admin.site.each_context(request), **own})
