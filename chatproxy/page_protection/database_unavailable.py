"""The page that is shown while the database does not answer: status 503 and a few words, made without a query.

A database that hangs is treated like one that refuses: a page waits no longer than `usage.database.query_deadline`
allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from usage.database.lent_connection import give_back_connection
from usage.database.query_deadline import limit_query_time

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10


class DatabaseUnavailablePages:
    """Middleware that shows a page with status 503 if the database connection of a page fails or hangs.

    It also gives the connection back to the pool as soon as the page is made, before it is sent.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with limit_query_time():
            try:
                return self._get_response(request)
            finally:
                give_back_connection()

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        return unavailable_page(error) if isinstance(error, OperationalError | InterfaceError) else None


def unavailable_page(error: Exception) -> HttpResponse:
    """Returns a page with status 503 that says that the database does not answer; logs the class of `error`."""
    logger.warning("a page needs the database, which does not answer: %s", type(error).__name__)
    answer = HttpResponse(render_to_string("database_unavailable.html"), status=503)
    answer["Retry-After"] = str(RETRY_SECONDS)
    answer["Cache-Control"] = "no-store"
    return answer
