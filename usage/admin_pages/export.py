"""The downloads of the list of requests and of the errors page, as CSV or JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse

from usage.admin_pages.access import admin_page, may_see_bodies
from usage.admin_pages.body_views import log_export, log_search
from usage.admin_pages.errors import read_fault
from usage.page_data.errors.error_groups import read_groups
from usage.page_data.exports import CONTENT_TYPES, export_calls, export_groups
from usage.page_data.filters import read_filters
from usage.sums.ranges import range_or_default


@admin_page
def requests(request: HttpRequest, kind: str) -> HttpResponseBase:
    """Sends a file with the rows (without bodies) of all logged requests that match the filters in the URL.

    `kind` is `csv` or `json`. Only people who may see bodies get error messages. Other people who search for words in
    bodies get `PermissionDenied`, since a file cannot say that this filter was left out.
    """
    _check(kind)
    now = datetime.now(UTC)
    sees_bodies = may_see_bodies(request)
    if request.GET.get("text") and not sees_bodies:
        raise PermissionDenied
    filters = read_filters(request.GET, now, with_messages=sees_bodies)
    if filters.text:
        log_search(request, filters.text)
    if sees_bodies:
        log_export(request, urlencode(filters.as_query()))
    return download(export_calls(filters, kind), kind, f"requests-{now:%Y%m%d-%H%M}")


@admin_page
def errors(request: HttpRequest, kind: str) -> HttpResponseBase:
    """Sends a file with the groups of failed calls that the page of errors shows for the same query parameters.

    `kind` is `csv` or `json`. Only people who may see bodies get the patterns of error messages.
    """
    _check(kind)
    now = datetime.now(UTC)
    time_range, _fault = range_or_default(request.GET, now)
    groups = read_groups(time_range, read_fault(request), request.GET.get("state", ""))
    sees_bodies = may_see_bodies(request)
    if sees_bodies:
        log_export(request, urlencode(time_range.as_query()))
    return download(export_groups(groups, kind, with_messages=sees_bodies), kind, f"errors-{now:%Y%m%d-%H%M}")


def _check(kind: str) -> None:
    """Raises `Http404` unless `kind`, the type of file in the address of an export, is `csv` or `json`."""
    if kind not in CONTENT_TYPES:
        raise Http404


def download(pieces: Iterator[bytes], kind: str, name: str) -> HttpResponseBase:
    """Answers with an export, in pieces, as the file `name` with the ending `kind` (`csv` or `json`)."""
    return StreamingHttpResponse(
        _one_by_one(pieces),
        content_type=CONTENT_TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="{name}.{kind}"', "Cache-Control": "no-store"},
    )


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Converts the pieces of an export to an asynchronous iterator, which makes each piece when it is needed."""
    # Django reads an ordinary iterator into a list first, so the whole export would be in memory.
    take = sync_to_async(lambda: next(pieces, None))
    while (piece := await take()) is not None:
        yield piece
