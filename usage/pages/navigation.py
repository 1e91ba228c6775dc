"""The side bar of the admin: its links, and the permission that each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from django.http import HttpRequest
from django.urls import reverse

from usage.pages.access import PERMISSION


class Entry(TypedDict):
    """A link of the admin's side bar, as unfold reads it. `permission` decides who sees the link."""

    title: str
    icon: str  # its name in Material Symbols
    link: str
    permission: Callable[[HttpRequest], bool]


class Section(TypedDict):
    """A titled group of links in the admin's side bar, as unfold reads it."""

    title: str
    items: list[Entry]


def sections(_request: HttpRequest) -> list[Section]:
    """Returns the groups of links in the admin's side bar; unfold's setting SIDEBAR names this function."""
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


def _entry(title: str, icon: str, name: str, permission: str = "") -> Entry:
    """Returns a link of the admin's side bar; without a permission, everybody sees the link."""

    def is_seen(request: HttpRequest) -> bool:
        return not permission or request.user.has_perm(permission)

    return {"title": title, "icon": icon, "link": reverse(name), "permission": is_seen}
