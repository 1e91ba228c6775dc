"""Owns what a page says while the database does not answer: 503 and a few words, which need none.

One that says nothing at all is away too: a page waits for it no longer than `usage.database.query_deadline` has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from usage.database.query_deadline import limit_query_time

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10


class DatabaseAway:
    """Middleware. Another database error is a fault of ours, and stays one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with limit_query_time():
            return self._get_response(request)

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        return say_so(error) if isinstance(error, OperationalError | InterfaceError) else None


def say_so(error: Exception) -> HttpResponse:
    logger.warning("a page needs the database, which does not answer: %s", type(error).__name__)
    answer = HttpResponse(render_to_string("database_away.html"), status=503)
    answer["Retry-After"] = str(RETRY_SECONDS)
    answer["Cache-Control"] = "no-store"
    return answer
