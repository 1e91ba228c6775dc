"""The list of requests, and the page of one request; `usage.admin` serves them instead of Django's own pages."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from usage.admin_pages.access import admin_page, may_see, may_see_bodies, render_page
from usage.admin_pages.base_url import base_url
from usage.admin_pages.body_views import log_search, log_views_of_calls
from usage.admin_pages.saved_views.views import list_query, views_context
from usage.models import Dimension, Request
from usage.page_data import call_page, reproduction
from usage.page_data.call_search.list_sums import read_list_sums
from usage.page_data.call_search.sorted_calls import find_largest
from usage.page_data.conversations.neighbours import find_neighbours
from usage.page_data.conversations.session_calls import COLUMNS, SessionTexts, calls_in_order, texts_of
from usage.page_data.errors.call_faults import OUTCOME_LABELS, fault_sentence, refused_parameter
from usage.page_data.errors.error_groups import GROUPED_OUTCOMES
from usage.page_data.filters import (
    ANY_FAILURE,
    LABELS,
    MAX_TEXT,
    Filters,
    find_names,
    in_address,
    read_choices,
    read_filters,
)
from usage.page_data.list_pages import page_links
from usage.page_data.search import find
from usage.sums.ranges import range_labels
from usage.sums.summed_names import UNKNOWN_MODEL

SUGGESTED = (Dimension.KEY, Dimension.MODEL, Dimension.ROUTE)  # what one chooses a name of
MAX_SUGGESTIONS = 20
SORT_WORDS = {"duration": "Duration", "output": "Output tokens", "cost": "Cost"}  # one for each of `filters.SORTS`
MAX_OPEN_CURL = 1500  # characters; a longer command is folded at first
WHOLE = {"session": "Whole conversation", "end_user": "Calls of this end user in order"}


def show_list(request: HttpRequest) -> HttpResponseBase:
    """Answers with a page of the list of logged requests, newest first, filtered by the query parameters.

    * `sort`: the page has instead the matching calls with the longest duration, the highest cost or the most output
      tokens.
    * `before`: a request id; the page has only older requests than that one. It has no effect with `sort`.

    A search in prompts and answers is recorded in the audit log, if `AUDIT_BODY_VIEWS` is on. People who may not view
    requests get `PermissionDenied`.
    """
    if not may_see(request):
        raise PermissionDenied
    now = datetime.now(UTC)
    filters = read_filters(request.GET, now, with_messages=may_see_bodies(request))
    if filters.text:
        log_search(request, filters.text)
    page = find_largest(filters) if filters.sort else find(filters, _cursor(request))
    is_first = "before" not in request.GET or bool(filters.sort)
    query, ranges = list_query(request.GET, filters), range_labels(request.GET.get("range", ""))
    links = page_links(query, request.GET, page.before)
    return render_page(
        request,
        "admin/usage/requests.html",
        "Requests",
        page=page,
        list_sums=read_list_sums(filters, page, now, is_first=is_first),
        calls=page.calls,
        rows=[(call, page.excerpts.get(call.pk, ())) for call in page.calls],
        filters=filters,
        choices=read_choices(SUGGESTED),
        outcomes=[(ANY_FAILURE, "any failure"), *OUTCOME_LABELS.items()],
        ranges=ranges,
        chosen_range=query.get("range", ""),
        query=urlencode(query),
        sorts=[(name, words, urlencode({**query, "sort": name})) for name, words in SORT_WORDS.items()],
        sort_words=SORT_WORDS.get(filters.sort, ""),
        newest_first=urlencode({name: value for name, value in query.items() if name != "sort"}),
        newer=links.newer,
        older=links.older,
        is_first=is_first,
        is_filtered=bool(query),
        words_query=_words_query(request, query),
        **views_context(request, "requests", urlencode(query)),
    )


@admin_page
def suggest_names(request: HttpRequest) -> HttpResponseBase:
    """Answers with JSON: up to `MAX_SUGGESTIONS` names of keys that contain the text in the query parameter `q`.

    The query parameter `of` selects names of models or of routes instead of keys; an unknown value gets status 404. The
    names are encoded as values of query parameters (`in_address`).
    """
    dimension, text = (request.GET.get(name, default) for name, default in (("of", Dimension.KEY), ("q", "")))
    if dimension not in SUGGESTED:
        raise Http404
    names = find_names(Dimension(dimension), text.replace("\0", "")[:MAX_TEXT], MAX_SUGGESTIONS)
    return JsonResponse({"names": [in_address(name) for name in names]}, headers={"Cache-Control": "no-store"})


def show_one(request: HttpRequest, object_id: str) -> HttpResponseBase:
    """Answers with the page of one logged request; the bodies are shown only to people who may see them.

    `object_id` is the request id, quoted as in the links of Django's admin; status 404 if there is no such request.
    People who may not view requests get `PermissionDenied`. If `AUDIT_BODY_VIEWS` is on, the audit log records that
    bodies are shown, and for which words the list was searched.
    """
    if not may_see(request):
        raise PermissionDenied
    calls = Request.objects.select_related("body") if may_see_bodies(request) else Request.objects.all()
    try:
        call = calls.get(pk=UUID(object_id.replace("_2D", "-")))
    except (ValueError, Request.DoesNotExist):
        raise Http404("There is no such call; it may have been pruned.") from None
    if may_see_bodies(request):
        log_views_of_calls(request, [call])
    filters = read_filters(request.GET, datetime.now(UTC), with_messages=may_see_bodies(request))
    if filters.text:
        log_search(request, filters.text)
    return render_page(
        request,
        "admin/usage/request.html",
        "Request",
        call=call,
        near=find_neighbours(filters, call.pk),
        in_order=[
            (words, urlencode({name: value, "call": str(call.pk)}))
            for name, words in WHOLE.items()
            if (value := getattr(call, name))
        ],
        list_query=_without(request, "view"),
        older_query=_without(request, "view", "sort"),  # only calls in the order of time have older ones
        page_query=_without(request),
        phases=call_page.timeline(call),
        bill=call_page.bill(call),
        bill_note=call_page.bill_note(call),
        bill_summary=call_page.bill_summary(call),
        error_title=call_page.error_title(call),
        fault_sentence=fault_sentence(call, refused_parameter(call, reads_body=may_see_bodies(request))),
        is_unknown=call_page.is_unknown(call),
        same_unknown=urlencode({"model": UNKNOWN_MODEL}) if call.unknown_model else "",
        needs_price_query=_day_of(call) if call.cost is None and call.price is None else "",
        **(_bodies_context(request, call) if may_see_bodies(request) else {}),
        same_key=urlencode({"key": in_address(call.key_name)}),
        same_caller=urlencode({"key": in_address(call.key_name), "caller": call.client_address or ""}),
        same_error=urlencode(_same_error(call).as_query()),
        same_response=urlencode({"q": call.response_id}),
        labels=[
            (words, value, urlencode({name: in_address(value)}))
            for name, words in LABELS.items()
            if (value := getattr(call, name))
        ],
        tags=[(tag, urlencode({"tag": tag})) for tag in call.tags],
    )


@admin_page
def show_in_order(request: HttpRequest) -> HttpResponseBase:
    """Answers with a page of the calls of one session or end user, oldest first.

    A query parameter names the session or the user. People who may see bodies also see, below each call, the messages
    that are new in this call; this is recorded in the audit log, if `AUDIT_BODY_VIEWS` is on. The query parameter
    `after`, a request id, leaves out that call and earlier ones. The query parameter `call` is the id of the call from
    which the page was opened; a link leads back to it.
    """
    column = next((name for name in COLUMNS if request.GET.get(name)), "session")
    value = request.GET.get(column, "").replace("\0", "")[:MAX_TEXT]
    after, opened_from = (_cursor(request, name) for name in ("after", "call"))
    found = calls_in_order(column, value, after) if value else None
    calls = [one.call for one in found.calls] if found else []
    texts = texts_of(calls, is_start=after is None) if calls and may_see_bodies(request) else SessionTexts()
    log_views_of_calls(request, (call for call in calls if call.pk in texts.new_turns))
    return render_page(
        request,
        "admin/usage/in_order.html",
        WHOLE[column] if value else "Calls in order",
        columns=COLUMNS,
        column=column,
        label=COLUMNS[column],
        value=value,
        query=urlencode({column: value}),
        list_query=urlencode({column: in_address(value)}) if value else "",
        opened_from=opened_from,
        later_query=urlencode({column: value, **({"call": str(opened_from)} if opened_from else {})}),
        found=found,
        rows=[(one, one.call, texts.new_turns.get(one.call.pk)) for one in found.calls] if found else [],
        read_to=texts.read_to,
        is_first=after is None,
    )


@admin_page
def download_body(request: HttpRequest, request_id: UUID, part: str) -> HttpResponseBase:
    """Answers with the stored body of a call's request or answer (`part`), as a file to download.

    The name of the file says if the body was cut when it was stored. Status 404 if there is no such body. People who
    may not see bodies get `PermissionDenied`. The download is recorded in the audit log, if `AUDIT_BODY_VIEWS` is on.
    """
    if not may_see_bodies(request):
        raise PermissionDenied
    call = Request.objects.select_related("body").filter(pk=request_id).first()
    text = call_page.stored_bodies(call).get(part) if call else None
    if call is None or not text:
        raise Http404("There is no such body; it may have been pruned.")
    log_views_of_calls(request, [call])
    is_cut = any(body.cut_bytes for body in call_page.stored_sizes(call) if body.name == part)
    name = f"attachment; filename={part}-{request_id}{'-cut' if is_cut else ''}.txt"
    headers = {"Content-Disposition": name, "Cache-Control": "no-store"}
    return HttpResponse(text.encode(errors="replace"), content_type="text/plain; charset=utf-8", headers=headers)


def _bodies_context(request: HttpRequest, call: Request) -> dict[str, object]:
    """Returns the part of the template's values about a call's bodies, its conversation and its error.

    The values also include commands, for curl and Python, that repeat the call.
    """
    url = base_url(request)
    conversation = call_page.conversation(call)
    is_json = conversation is None or request.GET.get("view") == "json"
    stored = call_page.stored_sizes(call)
    curl = reproduction.as_curl(call, url)
    return {
        "stored": stored,
        "is_cut": any(body.cut_bytes for body in stored),
        "has_conversation": conversation is not None,
        "conversation": None if is_json else conversation,
        "continues_query": urlencode({"q": conversation.continues}) if conversation else "",
        "whole_query": urlencode({"session": call.session, "call": str(call.pk)}) if call.session else "",
        "bodies": call_page.bodies(call) if is_json else [],
        "error_text": call_page.error_text(call),
        "curl": curl,
        "is_curl_open": len(curl) <= MAX_OPEN_CURL,
        "python": reproduction.as_python(call, url),
    }


def _without(request: HttpRequest, *names: str) -> str:
    """Returns the query string of a request without the given parameters, for links that keep all others."""
    query = request.GET.copy()
    for name in names:
        query.pop(name, None)
    return query.urlencode()


def _words_query(request: HttpRequest, query: dict[str, str]) -> str:
    """Returns the query string of a list that searches prompts and answers for the text in the parameter `q`.

    `query` has the parameters of the present list; all but `q` and `sort` stay. The text is searched for as a phrase,
    and is cut if it is too long. The result is empty if `q` is empty, if `query` already searches prompts and answers,
    or if the person may not see bodies.
    """
    words = query.get("q", "").replace('"', " ").strip()[: MAX_TEXT - len('""')].strip()
    if not words or "text" in query or not may_see_bodies(request):
        return ""
    others = {name: value for name, value in query.items() if name not in ("q", "sort")}  # the newest come first there
    return urlencode({**others, "text": f'"{words}"'})


def _day_of(call: Request) -> str:
    """Returns a query string for links to other pages; it selects the day of a call, in UTC, as the range of time."""
    return urlencode({"range": f"{call.started_at:%Y-%m-%d}"})


def _same_error(call: Request) -> Filters:
    """Returns filters for the list of requests; they select all calls with the same error as this failed call."""
    group = call.error_group if call.outcome in GROUPED_OUTCOMES else None
    return Filters(outcome=call.outcome, code=call.error_code, message=group)


def _cursor(request: HttpRequest, name: str = "before") -> UUID | None:
    """Returns the request id in the query parameter `name`; None if the parameter is missing or is no request id."""
    try:
        return UUID(request.GET[name])
    except (KeyError, ValueError):
        return None
