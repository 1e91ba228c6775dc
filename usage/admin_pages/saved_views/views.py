"""Reads, saves and deletes saved views. People who may see the pages have their own views, and see shared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_POST

from usage.admin_pages.access import admin_page, may_see_bodies
from usage.admin_pages.admin_base import row_number, signed_in
from usage.models import SavedView
from usage.page_data.filters import Filters, read_filters
from usage.page_data.spending.spending_content import read_choice_or_default
from usage.sums.ranges import range_labels

MAX_QUERY = 4000  # characters of the filters in an address
MAX_VIEWS = 100  # of one person
ADDRESSES = {"requests": "admin:usage_request_changelist", "usage": "pages:usage_report"}


def list_query(address: Mapping[str, str], filters: Filters) -> dict[str, str]:
    """Converts the filters of the list of requests to query parameters for links.

    `address` has the query parameters from which the filters were read. A range that was chosen by a name, such as
    `today`, stays a name: a saved link then means the day on which it is opened.
    """
    found, chosen = filters.as_query(), address.get("range", "")
    if filters.since and chosen in range_labels(chosen):
        found["range"] = chosen
        found.pop("from")
        found.pop("to", None)
    return found


def _requests_query(request: HttpRequest, query: QueryDict) -> str:
    filters = read_filters(query, datetime.now(UTC), with_messages=may_see_bodies(request))
    return urlencode(list_query(query, filters))


def _usage_query(_request: HttpRequest, query: QueryDict) -> str:
    return read_choice_or_default(query, datetime.now(UTC)).as_query()


# Returns the filters in a query string of each page, as a query string without what is no filter.
_CLEANED: dict[str, Callable[[HttpRequest, QueryDict], str]] = {
    "requests": _requests_query,
    "usage": _usage_query,
}


def seen_views(request: HttpRequest) -> QuerySet[SavedView]:
    """Returns the saved views that the signed-in person may see: first the person's own, then shared ones, by name.

    People who may not see prompts and answers do not get shared views that search them, since the words of the search
    may tell what is in them.
    """
    own, shared = Q(user=signed_in(request)), Q(is_shared=True)
    if not may_see_bodies(request):
        shared &= ~Q(query__regex="(^|&)text=")
    return SavedView.objects.filter(own | shared).alias(is_own=own).order_by("-is_own", "name", "pk")


def address_of(view: SavedView) -> str:
    """Returns the URL of the page that a saved view is for, with the view's filters."""
    return f"{reverse(ADDRESSES[view.page])}?{view.query}"


def views_context(request: HttpRequest, page: str, query: str) -> dict[str, object]:
    """Returns the template's values for the saved views of a page: the list of views, and the form to save a new one.

    `page` is the page's name, and `query` the query string of its present filters, which the form sends along.
    """
    views = seen_views(request).filter(page=page).select_related("user")[: 2 * MAX_VIEWS]
    own = signed_in(request)
    saved = [(view, address_of(view), view.user_id == own, view.query == query) for view in views]
    return {"saved_views": saved, "saved_page": page, "saved_query": query}


@require_POST
@admin_page
def save(request: HttpRequest) -> HttpResponseBase:
    """Saves the filters in a sent form as a view under a name, and redirects to the page with these filters.

    The person's own view with the same name is replaced. A view without a name, with too long filters, or beyond
    `MAX_VIEWS` is not saved; a message on the page says so.
    """
    page = request.POST.get("page", "")
    name = request.POST.get("name", "").replace("\0", "").strip()[:100]
    if page not in ADDRESSES or not name:
        messages.error(request, "A saved view needs a name.")
        return _back(page)
    query = _CLEANED[page](request, QueryDict(request.POST.get("query", "").replace("\0", "")))
    if len(query) > MAX_QUERY:
        messages.error(
            request, f"These filters are too long to be saved: {len(query)} characters; {MAX_QUERY} at most."
        )
        return _back(page, query)
    own = SavedView.objects.filter(user=signed_in(request))
    if own.count() >= MAX_VIEWS and not own.filter(page=page, name=name).exists():
        messages.error(request, f"Delete a view first: a person has {MAX_VIEWS} at most.")
        return _back(page, query)
    facts = {"query": query, "is_shared": request.POST.get("shared") == "on"}
    SavedView.objects.update_or_create(user_id=signed_in(request), page=page, name=name, defaults=facts)
    return _back(page, query)


@require_POST
@admin_page
def delete(request: HttpRequest) -> HttpResponseBase:
    """Deletes the person's own saved view that a sent form names, and redirects to the page that the view was for.

    A superuser may delete shared views of other people, too. If there is no such view, a message on the page says so.
    """
    views = seen_views(request) if request.user.is_superuser else SavedView.objects.filter(user=signed_in(request))
    number = row_number(request.POST.get("view", ""))
    view = None if number is None else views.filter(pk=number).first()
    if view is None:
        messages.error(request, "There is no such view.")
        return _back("")
    view.delete()
    return _back(view.page)


def _back(page: str, query: str = "") -> HttpResponseRedirect:
    address = reverse(ADDRESSES.get(page, ADDRESSES["requests"]))
    return HttpResponseRedirect(f"{address}?{query}" if query else address)
