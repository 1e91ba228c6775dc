"""Owns who sees the pages, and what of a call.

Whoever may view requests sees numbers: times, sizes, tokens, dollars, names of keys and models, kinds of errors. What
was said in a call takes one permission more, `BODIES`: prompts, answers, the call to make again, and the texts of
errors, since an upstream may quote the prompt in them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

PERMISSION = "usage.view_request"
BODIES = "usage.view_requestbody"
View = Callable[..., HttpResponseBase]


def may_see(request: HttpRequest) -> bool:
    return request.user.has_perm(PERMISSION)


def may_see_bodies(request: HttpRequest) -> bool:
    return request.user.has_perms((PERMISSION, BODIES))


def admin_page(view: View) -> View:
    """A view in the admin: signed in, allowed to view requests."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(checked)


def render_page(request: HttpRequest, template: str, title: str, **facts: Any) -> HttpResponseBase:
    facts = {"title": title, "sees_bodies": may_see_bodies(request), **facts}
    return render(request, template, {**admin.site.each_context(request), **facts})
