"""The errors page: failed calls in groups by kind of error, which people can mark as looked into."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from usage.admin_pages.access import admin_page, render_page
from usage.admin_pages.dashboard import range_query
from usage.page_data.error_groups import MAX_GROUPS, in_state, mark_known, read_groups, read_kind, unmark
from usage.sums.ranges import range_labels, range_or_default

STATES = ("all", "new", "known")


@admin_page
def show(request: HttpRequest) -> HttpResponseBase:
    """Answers with the page of errors: the failed calls of a range of time, grouped by kind of error.

    The query parameter `state` shows only the kinds that somebody has looked into (`known`), or only the others
    (`new`).
    """
    now = datetime.now(UTC)
    time_range, fault = range_or_default(request.GET, now)
    groups = read_groups(time_range)
    state = request.GET.get("state", "all")
    shown = in_state(groups, state)
    return render_page(
        request,
        "admin/usage/errors.html",
        "Errors",
        fault=fault,
        groups=[(group, urlencode({**group.filters, **time_range.as_query()})) for group in shown],
        calls=sum(group.calls for group in shown),
        is_cut=len(groups) >= MAX_GROUPS,
        most=MAX_GROUPS,
        states=STATES,
        state=state,
        ranges=range_labels(time_range.name),
        time_range=time_range,
        query=range_query(time_range),
        may_mark=request.user.has_perm("usage.change_knownerror"),
        now=now,
    )


@require_POST
@admin_page
def mark(request: HttpRequest) -> HttpResponseBase:
    """Marks the kind of error that a sent form names as looked into, with a remark, or removes that mark.

    Then redirects to the page of errors. People who may not mark errors get `PermissionDenied`.
    """
    if not request.user.has_perm("usage.change_knownerror"):
        raise PermissionDenied
    back = HttpResponseRedirect(f"{reverse('pages:errors')}?{request.POST.get('query', '')}")
    try:
        kind = read_kind(request.POST.get("kind", ""))
    except ValueError:
        messages.error(request, "There is no such kind of error.")
        return back
    if request.POST.get("do") == "forget":
        unmark(kind)
    else:
        mark_known(kind, request.POST.get("note", "").replace("\0", "").strip()[:500], request.user.get_username())
    return back
