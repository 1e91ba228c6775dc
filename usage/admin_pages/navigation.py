"""The side bar of the admin, with its links and the permission for each; and the search that Ctrl+K opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.core.cache.backends.dummy import DummyCache
from django.core.paginator import InvalidPage
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from unfold import sites
from unfold.dataclasses import SearchResult

from usage.admin_pages.access import ALERTS, PERMISSION
from usage.admin_pages.saved_views.views import address_of, seen_views
from usage.models import Dimension
from usage.page_data.filters import MAX_TEXT, find_names, in_address
from usage.page_data.search import find_by_id
from usage.untrusted_text import escape_invisible

# The theme would keep each person's results for five minutes. Meanwhile new keys were missing, and rows were shown that
# had been deleted, or that the person may see no longer.
sites.cache = DummyCache("results of searches", {})

MAX_FOUND = 5  # calls, names of keys, and names of models that one search offers


class Entry(TypedDict):
    """One link in the side bar of the admin, in the form that unfold, the admin's theme, expects.

    `permission` is called to decide who sees the link.
    """

    title: str
    icon: str  # its name in Material Symbols
    link: str
    permission: Callable[[HttpRequest], bool]


class Section(TypedDict):
    """A group of links with a title in the side bar of the admin, in the form that unfold, its theme, expects."""

    title: str
    items: list[Entry]


def sections(_request: HttpRequest) -> list[Section]:
    """Returns the groups of links in the side bar of the admin.

    The admin's theme, unfold, calls this function: the setting SIDEBAR names it.
    """
    return [
        {
            "title": "Activity",
            "items": [
                _entry("Dashboard", "monitoring", "admin:index"),
                _entry("Usage", "payments", "pages:usage_report", PERMISSION),
                _entry("Requests", "list_alt", "admin:usage_request_changelist", PERMISSION),
                _entry("Errors", "error", "pages:errors", PERMISSION),
            ],
        },
        {
            "title": "Alerts",
            "items": [
                _entry("Alerts", "notifications", "admin:chatproxy_alert_changelist", ALERTS),
                _entry(
                    "Alert messages",
                    "outgoing_mail",
                    "admin:chatproxy_alertmessage_changelist",
                    "chatproxy.view_alertmessage",
                ),
                _entry("Alert rules", "rule", "admin:chatproxy_alertrule_changelist", "chatproxy.view_alertrule"),
                _entry(
                    "Alert channels",
                    "campaign",
                    "admin:chatproxy_alertchannel_changelist",
                    "chatproxy.view_alertchannel",
                ),
            ],
        },
        {
            "title": "Settings",
            "items": [
                _entry("Keys", "key", "admin:proxyapi_accesskey_changelist", "proxyapi.view_accesskey"),
                _entry("Teams", "groups", "admin:proxyapi_team_changelist", "proxyapi.view_team"),
                _entry("Custom prices", "sell", "admin:usage_modelprice_changelist", "usage.view_modelprice"),
                _entry("Users", "person", "admin:auth_user_changelist", "auth.view_user"),
                _entry("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
                _entry("API tokens", "token", "admin:proxyapi_apitoken_changelist", "proxyapi.view_apitoken"),
                _entry("Audit log", "history", "admin:admin_logentry_changelist", "admin.view_logentry"),
                *([_entry("Second factor", "lock", "mfa_index")] if settings.SECOND_FACTOR else ()),
            ],
        },
    ]


def search(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Answers a search (Ctrl+K) with the theme's list of results, as the database has them now.

    Raises:
        Http404: there is no page of results with the number in the address.
    """
    try:
        answer: HttpResponse = sites.UnfoldAdminSite.search(admin.site, request, extra_context)
    except InvalidPage:
        raise Http404("There is no such page of results.") from None
    return answer


def find(request: HttpRequest, _lower_case: str) -> list[SearchResult]:
    """Returns the results of the admin's search (Ctrl+K): pages, saved views, calls by a whole id, keys and models.

    A key or a model leads to the list of its calls. People who may not view requests find only pages. The admin's
    theme, unfold, calls this function.
    """
    term = request.GET.get("s", "").replace("\0", "").strip()[:MAX_TEXT]
    found = [
        SearchResult(entry["title"], section["title"], entry["link"], entry["icon"])
        for section in sections(request)
        for entry in section["items"]
        if term.lower() in entry["title"].lower() and entry["permission"](request)
    ]
    if not term or not request.user.has_perm(PERMISSION):
        return found
    for view in seen_views(request).filter(name__icontains=term)[:MAX_FOUND]:
        name = escape_invisible(view.name, 100)
        found.append(SearchResult(name, f"Saved view of {view.page}", address_of(view), "bookmark"))
    for call in find_by_id(term)[:MAX_FOUND]:
        said = f"Call of {escape_invisible(call.key_name, 100)}, {call.started_at:%Y-%m-%d %H:%M:%S} UTC"
        found.append(
            SearchResult(str(call.pk), said, reverse("admin:usage_request_change", args=[call.pk]), "list_alt")
        )
    for dimension in (Dimension.KEY, Dimension.MODEL):
        for name in find_names(dimension, term, MAX_FOUND):
            link = f"{reverse('admin:usage_request_changelist')}?{urlencode({str(dimension): in_address(name)})}"
            found.append(SearchResult(escape_invisible(name, 100), f"Calls of this {dimension}", link, "list_alt"))
    return found


def _entry(title: str, icon: str, name: str, permission: str = "") -> Entry:
    """Returns one link for the side bar of the admin.

    With a `permission`, only people who hold it see the link.
    """

    def is_seen(request: HttpRequest) -> bool:
        return not permission or request.user.has_perm(permission)

    return {"title": title, "icon": icon, "link": reverse(name), "permission": is_seen}
