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
from usage.models import ErrorState
from usage.page_data.errors.call_faults import FAULTS
from usage.page_data.errors.error_groups import MAX_GROUPS, STATES, ErrorGroup, read_groups
from usage.page_data.errors.error_marks import mark as store_mark
from usage.page_data.errors.error_marks import read_kind, unmark
from usage.page_data.formatting import period
from usage.sums.ranges import TimeRange, range_labels, range_or_default

ORDER_WORDS = {"calls": "Most calls", "newest": "Newest"}
PART_WORDS = {"key": "Keys", "model": "Models", "route": "Routes", "status": "Statuses"}


@admin_page
def show(request: HttpRequest) -> HttpResponseBase:
    """Answers with the page of errors: the failed calls of a range of time, grouped by kind of error.

    The range is extended to whole hours. The other query parameters are:

    * `fault`: whose errors are shown: `caller`, `gateway`, `account` (for its limits at OpenAI) or `openai`.
    * `state`: only `new`, `known` or `resolved` kinds of error.
    * `order`: `newest` shows the kind with the newest call first.
    """
    now = datetime.now(UTC)
    time_range, fault_words = range_or_default(request.GET, now)
    time_range = time_range.in_hours(now)  # failures are counted by the hour
    fault, state, order = read_fault(request), read_state(request), read_order(request)
    groups = read_groups(time_range, fault, state, order)
    return render_page(
        request,
        "admin/usage/errors.html",
        "Errors",
        fault_words=fault_words,
        groups=[(group, *_links(group, time_range)) for group in groups],
        calls=sum(group.calls for group in groups),
        is_cut=len(groups) >= MAX_GROUPS,
        most=MAX_GROUPS,
        states=("all", *STATES),
        state=state,
        order=order,
        orders=ORDER_WORDS,
        faults={"": "Everyone", **FAULTS},
        fault=fault,
        ranges=range_labels(time_range.name),
        time_range=time_range,
        period=period(time_range.start, time_range.counted_end),
        query=range_query(time_range),
        may_mark=request.user.has_perm("usage.change_knownerror"),
        now=now,
    )


def read_fault(request: HttpRequest) -> str:
    """Returns whose errors are shown: the query parameter `fault` if it is one of `FAULTS`, else "" for all."""
    fault = request.GET.get("fault", "")
    return fault if fault in FAULTS else ""


def read_state(request: HttpRequest) -> str:
    """Returns which errors are shown: the query parameter `state` if it is one of `STATES`, else `all`."""
    state = request.GET.get("state", "")
    return state if state in STATES else "all"


def read_order(request: HttpRequest) -> str:
    """Reads the query parameter `order` of the page of errors; returns `newest`, or `calls` for any other text."""
    return "newest" if request.GET.get("order") == "newest" else "calls"


def read_choice_faults(request: HttpRequest) -> list[str]:
    """Returns a sentence for each of the query parameters `fault`, `state` and `order` that has an unknown value."""
    choices = {"fault": FAULTS, "state": ("all", *STATES), "order": ORDER_WORDS}
    given = {name: request.GET.get(name, "") for name in choices}
    return [f"{text[:40]!r} is no {name}." for name, text in given.items() if text and text not in choices[name]]


def _links(group: ErrorGroup, time_range: TimeRange) -> tuple[str, list[tuple[str, int, list[tuple[str, int, str]]]]]:
    """Returns the query strings of the links from one group of errors to lists of the group's calls.

    The first value is the query string for all calls of the group. The second has one entry each for keys, models,
    routes and statuses: a title such as `Keys`, the number of different values, and the values that are shown. Each of
    these comes with its number of calls, and the query string for these calls.
    """
    times = time_range.as_times()
    parts = [
        (
            words,
            group.counts[part],
            [
                (value, calls, urlencode({**group.filter_by(part, value), **times}))
                for value, calls in group.parts[part]
            ],
        )
        for part, words in PART_WORDS.items()
    ]
    return urlencode({**group.filters, **times}), parts


@require_POST
@admin_page
def mark(request: HttpRequest) -> HttpResponseBase:
    """Marks a kind of error as known or resolved, with a remark, as a sent form says; or removes the mark.

    Redirects to the page of errors. If the form is invalid, nothing is marked, and that page shows a message. Raises
    `PermissionDenied` for people who may not mark errors.
    """
    if not request.user.has_perm("usage.change_knownerror"):
        raise PermissionDenied
    back = HttpResponseRedirect(f"{reverse('pages:errors')}?{request.POST.get('query', '')}")
    try:
        kind = read_kind(request.POST.get("kind", ""))
    except ValueError:
        messages.error(request, "There is no such kind of error.")
        return back
    state = request.POST.get("do", "")
    if state == "forget":
        unmark(kind)
    elif state in ErrorState.values:
        note = request.POST.get("note", "").replace("\0", "").strip()[:500]
        store_mark(kind, ErrorState(state), note, request.user.get_username())
    else:
        messages.error(request, "Nothing was marked: an error is marked as known or as resolved.")
    return back
