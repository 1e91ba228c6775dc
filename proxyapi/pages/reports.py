"""Reports for programs: `GET /usage` as JSON or CSV, `GET /metrics` for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar
from weakref import WeakValueDictionary

from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpResponse, JsonResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.database_threads import NoThread, in_own_thread
from proxyapi.dispatch.authentication import AccessTokenAuthentication, SecurityKeyAuthentication
from proxyapi.dispatch.base_view import ProxyView
from proxyapi.exceptions import BadRequest, DatabaseUnavailable, InvalidKey
from proxyapi.keys.callers import Caller
from usage.database.query_deadline import limit_query_time
from usage.sums.labels.label_groups import LabelsUnreadable
from usage.sums.labels.usage_report import as_csv, read_query, read_usage

MAX_DATABASE_SECONDS = 10.0
# Each takes a connection of the worker's pool, which calls and pages need, too. A reader (a key or a token) has as many
# in the queue at most: whoever holds a key cannot keep others waiting, such as an administrator who revokes the key.
MAX_PARALLEL_READS = 2
UNSTORED = {"Cache-Control": "no-store"}
CSV = "text/csv; charset=utf-8"
# Whose usage the sender of a request may see; the value of `request.auth`.
ALL_KEYS, OWN_KEY = "all keys", "own key"
Answer = TypeVar("Answer")
_free_reads = asyncio.Semaphore(MAX_PARALLEL_READS)
_reads_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by reader; without those at rest


class AccessTokenOrKey(BaseAuthentication):
    """Authentication of a request for a report, by `ACCESS_TOKEN` or by an access key.

    With the token, the report has the usage of all keys; with a key, only the usage of this key.
    """

    def authenticate(self, request: Request) -> tuple[Caller, str]:
        try:
            return AccessTokenAuthentication().authenticate(request)[0], ALL_KEYS
        except InvalidKey:
            return SecurityKeyAuthentication().authenticate(request)[0], OWN_KEY


class UsageView(ProxyView):
    """View of `GET /usage`: the calls, tokens and dollars of a time range as JSON or CSV, in total and by group."""

    authentication_classes = (AccessTokenOrKey,)

    @openapi.usage
    async def get(self, request: ProxyRequest) -> HttpResponse:
        key = None if request.auth == ALL_KEYS else request.caller.name
        try:
            query = read_query(request.query_params, datetime.now(UTC))
        except ValueError as fault:
            raise BadRequest(str(fault)) from None
        try:
            numbers = await read_from_database(lambda: read_usage(query, key), f"/usage {request.caller.name}")
        except LabelsUnreadable as fault:
            raise BadRequest(str(fault)) from None
        if query.format == "csv":
            return HttpResponse(as_csv(numbers), content_type=CSV, headers=UNSTORED)
        return JsonResponse({"object": "usage", "key": key, **numbers}, headers=UNSTORED)


class MetricsView(ProxyView):
    """View of `GET /metrics`: the counters of all workers of this host, in Prometheus' text format.

    It does not use the database, so it may be requested often.
    """

    authentication_classes = (AccessTokenAuthentication,)

    @openapi.metrics
    async def get(self, request: ProxyRequest) -> HttpResponse:
        content, content_type = await asyncio.to_thread(_render_metrics)
        return HttpResponse(content, content_type=content_type)


def _render_metrics() -> tuple[bytes, str]:
    """Returns the counters of all workers in Prometheus' text format, and the format's content type.

    Call this in a thread.
    """
    # Imported here: Prometheus' library is loaded by the first request, and a worker that is never asked does without.
    from usage.live import metrics

    return metrics.render(), metrics.CONTENT_TYPE


async def read_from_database(read: Callable[[], Answer], reader: str) -> Answer:
    """Runs the function `read`, which queries the database, in a thread of its own; returns the result of `read`.

    No more than `MAX_PARALLEL_READS` run in a worker at the same time; further ones wait in a queue. `reader` is a
    text that stands for the key or token that asks: no more than `MAX_PARALLEL_READS` of one reader run or wait in the
    queue.

    Raises:
        DatabaseUnavailable: the database failed, waiting and `read` took longer than `MAX_DATABASE_SECONDS`, or no
            thread can be started.
    """
    loop = asyncio.get_running_loop()

    def read_and_close() -> Answer:
        try:
            with limit_query_time(MAX_DATABASE_SECONDS):
                return read()
        except DatabaseError as error:
            raise DatabaseUnavailable from error
        finally:
            with suppress(RuntimeError):  # the loop has ended
                # Not when the waiting task ends: the thread may go on, and has its connection until now.
                loop.call_soon_threadsafe(_free_reads.release)
            connection.close()

    try:
        async with asyncio.timeout(MAX_DATABASE_SECONDS):
            async with _reads_of.setdefault(reader, asyncio.Semaphore(MAX_PARALLEL_READS)):
                await _free_reads.acquire()
                return await in_own_thread(read_and_close)
    except NoThread as error:
        _free_reads.release()
        raise DatabaseUnavailable from error
    except TimeoutError:
        raise DatabaseUnavailable from None
