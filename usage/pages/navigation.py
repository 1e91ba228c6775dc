"""Owns the admin's side bar: what it leads to, and who sees which entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from usage.pages.access import PERMISSION


def sections(_request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {
            "title": "What happens",
            "items": [
                _entry("Dashboard", "monitoring", "admin:index"),
                _entry("Requests", "list_alt", "admin:usage_request_changelist", PERMISSION),
                _entry("Errors", "error", "pages:errors", PERMISSION),
            ],
        },
        {
            "title": "How it is set up",
            "items": [
                _entry("Keys", "key", "admin:proxyapi_accesskey_changelist", "proxyapi.view_accesskey"),
                _entry("Own prices", "sell", "admin:usage_modelprice_changelist", "usage.view_modelprice"),
                _entry("Users", "person", "admin:auth_user_changelist", "auth.view_user"),
                _entry("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
                _entry("Log of the admin", "history", "admin:admin_logentry_changelist", "admin.view_logentry"),
            ],
        },
    ]


def _entry(title: str, icon: str, name: str, permission: str = "") -> dict[str, Any]:
    def is_seen(request: HttpRequest) -> bool:
        return not permission or request.user.has_perm(permission)

    seen: Callable[[HttpRequest], bool] = is_seen
    return {"title": title, "icon": icon, "link": reverse(name), "permission": seen}
