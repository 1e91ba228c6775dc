"""The pages of single calls in "My usage": for the holder of a key, and for a person with an account.

Each page exists twice, since the two sign in differently: below `/my-usage/calls/`, and for each key of a person below
`/my-usage/keys/<id>/calls/`. A lead, who sees only the sums of a member's key, gets 404.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from proxyapi.keys import self_service
from proxyapi.pages import key_sessions
from proxyapi.pages.my_keys import facts_for, for_person
from proxyapi.pages.own_calls.viewers import Viewer
from usage.admin_pages.export import download, refusal
from usage.models import Request
from usage.page_data import call_page
from usage.page_data.errors.call_faults import OUTCOME_LABELS, fault_sentence, refused_parameter
from usage.page_data.exports import export_calls
from usage.page_data.filters import ANY_FAILURE, Filters
from usage.page_data.list_pages import page_links
from usage.page_data.search import find
from usage.sums.ranges import range_labels

OwnView = Callable[..., HttpResponseBase]  # its arguments: the request, the viewer, and what the address has


def for_holder(view: OwnView) -> OwnView:
    """Decorator for a view of a key's calls: passes the signed-in holder of the key to the view, as its viewer.

    * A person who is not signed in is sent to the form to sign in.
    * A person who is signed in with the old secret of a rotated key is sent to the key's usage, which says why.
    * Only GET and HEAD are answered.
    """

    @wraps(view)
    def answered(request: HttpRequest, **options: UUID) -> HttpResponseBase:
        entry = key_sessions.find_signed_in(request)
        if entry is None or entry.caller is None or not entry.is_newest:
            return HttpResponseRedirect(reverse("my_usage:show"))
        home, base = reverse("my_usage:show"), reverse("my_usage:calls")
        viewer = Viewer(entry.caller.name, None, base, home, settings.MY_USAGE_BODIES)
        return view(request, viewer, **options)

    return require_safe(answered)


def for_owner(view: OwnView) -> OwnView:
    """Decorator for a view of a key's calls: passes the signed-in owner of the key to the view, as its viewer.

    Other people who are signed in get 404; people who are not signed in are sent to the login. Only GET and HEAD are
    answered.
    """

    def answered(request: HttpRequest, person: User, /, key_id: int, **options: UUID) -> HttpResponseBase:
        key = self_service.seen_keys(person).get(pk=key_id)
        facts = facts_for(person, key)
        if not facts.sees_calls:
            raise Http404("There is no such page.")
        home, base = (reverse(f"my_usage:{page}", args=[key.pk]) for page in ("key", "key_calls"))
        viewer = Viewer(key.name, person.get_username(), base, home, settings.MY_USAGE_BODIES)
        return view(request, viewer, **options)

    return require_safe(for_person(answered))


def show_calls(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """Answers with a page of the key's calls, newest first, filtered by the query parameters."""
    filters = viewer.filters(request.GET, datetime.now(UTC))
    page = find(filters, _cursor(request))
    query = _own_query(request, filters)
    links = page_links(query, request.GET, page.before)
    return render(
        request,
        "my_usage/calls.html",
        {
            "viewer": viewer,
            "page": page,
            "filters": filters,
            "outcomes": [(ANY_FAILURE, "any failure"), *OUTCOME_LABELS.items()],
            "ranges": range_labels(request.GET.get("range", "")),
            "chosen_range": query.get("range", ""),
            "query": urlencode(query),
            "newer": links.newer,
            "older": links.older,
            "is_first": "before" not in request.GET,
        },
    )


def export(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """Sends a CSV file of the key's calls that match the query parameters, with the messages of errors.

    The status is 400 if a parameter is invalid.
    """
    now = datetime.now(UTC)
    filters = viewer.filters(request.GET, now)
    if filters.faults:
        return refusal(filters.faults)
    return download(export_calls(filters, "csv"), "csv", f"calls-{now:%Y%m%d-%H%M}", viewer.reader)


def show_call(request: HttpRequest, viewer: Viewer, request_id: UUID) -> HttpResponseBase:
    """Returns the page of one of the key's calls.

    Raises:
        Http404: there is no such call, or the viewer may not see it.
    """
    call = viewer.get(request_id)
    return render(
        request,
        "my_usage/call.html",
        {
            "viewer": viewer,
            "call": call,
            "error_title": call_page.error_title(call),
            "fault_sentence": fault_sentence(call, refused_parameter(call, reads_body=viewer.sees_bodies)),
            "error_text": call_page.error_text(call) if viewer.sees_bodies else call.error_message,
            "phases": call_page.timeline(call),
            "bill": call_page.bill(call),
            "bill_note": call_page.bill_note(call, is_own=True),
            "bill_summary": call_page.bill_summary(call),
            **(_bodies(request, call) if viewer.sees_bodies else {}),
        },
    )


def _bodies(request: HttpRequest, call: Request) -> dict[str, object]:
    """Returns the template's values that show a call's prompt and answer: as a conversation, or as JSON.

    JSON is shown if the query parameter `view` is `json`, or if the call is no conversation.
    """
    conversation = call_page.conversation(call)
    is_json = conversation is None or request.GET.get("view") == "json"
    return {
        "has_conversation": conversation is not None,
        # A link to the call before would lead into the admin.
        "conversation": None if conversation is None or is_json else replace(conversation, continues=""),
        "bodies": call_page.bodies(call) if is_json else [],
    }


def _own_query(request: HttpRequest, filters: Filters) -> dict[str, str]:
    """Returns the filters of the list of calls as query parameters for links, without the key and the owner.

    A time range that was chosen by a name, such as `day`, is returned as this name, not as two points in time.
    """
    query = {name: text for name, text in filters.as_query().items() if name not in ("key", "owner")}
    if filters.since and request.GET.get("range"):
        query["range"] = request.GET["range"]
        query.pop("from")
        query.pop("to", None)
    return query


def _cursor(request: HttpRequest) -> UUID | None:
    """Returns the request id in the query parameter `before`; None if the parameter is missing or is no request id."""
    try:
        return UUID(request.GET["before"])
    except (KeyError, ValueError):
        return None
