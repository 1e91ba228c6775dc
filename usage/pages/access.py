"""Owns who sees the pages: whoever may view requests in the admin."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

PERMISSION = "usage.view_request"
View = Callable[..., HttpResponseBase]


def may_see(request: HttpRequest) -> bool:
    return request.user.has_perm(PERMISSION)


def admin_page(view: View) -> View:
    """A view in the admin: signed in, allowed to view requests."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(checked)


def render_page(request: HttpRequest, template: str, title: str, **facts: Any) -> HttpResponseBase:
    return render(request, template, {**admin.site.each_context(request), "title": title, **facts})
