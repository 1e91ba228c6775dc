"""The downloads of what the lists show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse

from usage.page_data.error_groups import read_groups
from usage.page_data.exports import CONTENT_TYPES, export_calls, export_groups
from usage.page_data.search import read_filters
from usage.pages.access import admin_page, may_see_bodies
from usage.sums.ranges import read_range


@admin_page
def requests(request: HttpRequest, kind: str) -> HttpResponseBase:
    _check(kind)
    now = datetime.now(UTC)
    filters = read_filters(request.GET, now, with_messages=may_see_bodies(request))
    return _download(export_calls(filters, kind), kind, f"requests-{now:%Y%m%d-%H%M}")


@admin_page
def errors(request: HttpRequest, kind: str) -> HttpResponseBase:
    _check(kind)
    now = datetime.now(UTC)
    try:
        time_range = read_range(request.GET, now)
    except ValueError:
        time_range = read_range({}, now)
    return _download(export_groups(read_groups(time_range), kind), kind, f"errors-{now:%Y%m%d-%H%M}")


def _check(kind: str) -> None:
    if kind not in CONTENT_TYPES:
        raise Http404


def _download(pieces: Iterator[bytes], kind: str, name: str) -> HttpResponseBase:
    return StreamingHttpResponse(
        _one_by_one(pieces),
        content_type=CONTENT_TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="{name}.{kind}"', "Cache-Control": "no-store"},
    )


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each when the one before has left; of an iterator that is not async Django would make a list first."""
    take = sync_to_async(lambda: next(pieces, None))
    while (piece := await take()) is not None:
        yield piece
