"""The downloads of the list of requests and of the errors page, as CSV or JSON.

An export with a filter that cannot be read is refused: a file with other rows than those asked for would go unnoticed.

An export lasts as long as its reader likes. So it has a database connection only while a piece is made, not while the
piece is sent, and each reader may have few of them at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from usage.admin_pages.access import admin_page, may_see_bodies
from usage.admin_pages.body_views import log_export, log_search
from usage.admin_pages.errors import read_choice_faults, read_fault, read_order, read_state
from usage.database.lent_connection import give_back_connection
from usage.page_data.errors.error_groups import read_groups
from usage.page_data.exports import CONTENT_TYPES, export_calls, export_groups
from usage.page_data.filters import read_filters
from usage.sums.ranges import range_or_default

READER_EXPORTS = 2  # that one reader may have at the same time in this worker, but for some that begin together
# All exports of this worker together may make so many pieces at a time; others wait. Each holds one of the 8
# connections of the worker's pool meanwhile.
PARALLEL_PIECES = 3


@admin_page
def requests(request: HttpRequest, kind: str) -> HttpResponseBase:
    """Sends a file with the rows of all logged requests that match the filters in the URL, without their bodies.

    `kind` is `csv` or `json`. The status is 400 if a filter is invalid. Error messages are included only for people who
    may see bodies. Raises `PermissionDenied` if anybody else uses the filter for words in bodies. If `AUDIT_BODY_VIEWS`
    is on, exports with error messages and searches in bodies are recorded in the audit log.
    """
    _check(kind)
    now = datetime.now(UTC)
    sees_bodies = may_see_bodies(request)
    if request.GET.get("text") and not sees_bodies:
        raise PermissionDenied
    filters = read_filters(request.GET, now, with_messages=sees_bodies)
    if filters.faults:
        return refusal(filters.faults)
    if filters.text:
        log_search(request, filters.text)
    if sees_bodies:
        log_export(request, urlencode(filters.as_query()))
    return download(export_calls(filters, kind), kind, f"requests-{now:%Y%m%d-%H%M}", _reader(request))


@admin_page
def errors(request: HttpRequest, kind: str) -> HttpResponseBase:
    """Sends a file with the groups of failed calls that the page of errors shows for the same query parameters.

    `kind` is `csv` or `json`. The status is 400 if a parameter is invalid. Only people who may see bodies get error
    messages; if `AUDIT_BODY_VIEWS` is on, their exports are recorded in the audit log.
    """
    _check(kind)
    now = datetime.now(UTC)
    time_range, range_fault = range_or_default(request.GET, now)
    if faults := [*filter(None, [range_fault]), *read_choice_faults(request)]:
        return refusal(faults)
    fault, state, order = read_fault(request), read_state(request), read_order(request)
    groups = read_groups(time_range, fault, state, order)
    sees_bodies = may_see_bodies(request)
    if sees_bodies:
        choice = {**time_range.as_query(), **({"fault": fault} if fault else {}), "state": state, "order": order}
        log_export(request, urlencode(choice))
    pieces = export_groups(groups, kind, with_messages=sees_bodies)
    return download(pieces, kind, f"errors-{now:%Y%m%d-%H%M}", _reader(request))


def _check(kind: str) -> None:
    """Raises `Http404` unless `kind`, the type of file in the address of an export, is `csv` or `json`."""
    if kind not in CONTENT_TYPES:
        raise Http404


def refusal(faults: Iterable[str]) -> HttpResponse:
    """Returns the response to a request for an export that is not made: status 400, and a sentence for each fault."""
    return HttpResponse(" ".join(faults), status=400, content_type="text/plain; charset=utf-8")


def _reader(request: HttpRequest) -> str:
    """Returns the signed-in person's name for the limit of exports that run at the same time."""
    return account_reader(request.user.get_username())


def account_reader(username: str) -> str:
    """Returns the name under which a person's running exports are counted: the word `account` and the user name."""
    return f"account {username}"


def download(pieces: Iterator[bytes], kind: str, name: str, reader: str) -> HttpResponseBase:
    """Returns the response for an export: a file `name` with the ending `kind` (`csv` or `json`), sent piece by piece.

    `reader` is the name under which the running exports of the person or key are counted. If `READER_EXPORTS` exports
    are being sent to this reader already, the response has the status 429.
    """
    if _sent_to[reader] >= READER_EXPORTS:
        words = f"You have {READER_EXPORTS} exports running. Try again when one of them has ended.\n"
        headers = {"Retry-After": "10", "Cache-Control": "no-store"}
        return HttpResponse(words, status=429, content_type="text/plain; charset=utf-8", headers=headers)
    return StreamingHttpResponse(
        _one_by_one(pieces, reader),
        content_type=CONTENT_TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="{name}.{kind}"', "Cache-Control": "no-store"},
    )


_sent_to: Counter[str] = Counter()  # how many exports are being sent, by reader; changed by the event loop only
_making = asyncio.Semaphore(PARALLEL_PIECES)


async def _one_by_one(pieces: Iterator[bytes], reader: str) -> AsyncIterator[bytes]:
    """Yields the pieces of an export; makes each one in a thread, only when it is needed.

    All exports of this process together make at most `PARALLEL_PIECES` pieces at the same time; others wait. While it
    runs, the export is counted for the limit of exports of `reader`, the name of a person or key.
    """
    # Django reads an ordinary iterator into a list first, so the whole export would be in memory.
    _sent_to[reader] += 1
    try:
        while True:
            async with _making:
                piece = await sync_to_async(_next)(pieces)
            if piece is None:
                return
            yield piece
    finally:
        _sent_to[reader] -= 1
        if not _sent_to[reader]:
            del _sent_to[reader]


def _next(pieces: Iterator[bytes]) -> bytes | None:
    """Returns the next piece of an export, or None after the last one. Gives the thread's database connection back."""
    try:
        return next(pieces, None)
    finally:
        give_back_connection()
