"""Owns the ASGI side of an API call: the lean counterpart of Django's stock handler.

In order: ids, route, the view (which asks for the body: `proxyapi.receiving`), the answer. Django's
stock handler costs four times as much per call and keeps a thread for each (ARCHITECTURE.md has
the figures). What it does for a call is done here: the caller's departure cancels the call at
once, an answer is closed exactly once, and a fault becomes a 500, never a hung connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from proxyapi.exceptions import CallerGone, InternalError, render
from proxyapi.receiving import Receive
from proxyapi.relay import RelayResponse
from proxyapi.requests import CallRequest
from proxyapi.streaming import EventStream, Send

logger = logging.getLogger(__name__)

NO_BODY_STATUSES = {204, 304}


class CallHandler:
    """An ASGI application for the paths of `proxyapi.urls`."""

    def __init__(self) -> None:
        self._resolver = get_resolver("proxyapi.urls")
        self._cors = CorsMiddleware(call_view)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        request = CallRequest(scope, receive)
        # `OPTIONS *` has no path
        request.resolver_match = self._resolver.resolve("/" + request.path_info.removeprefix("/").rstrip("/"))
        with request.place:
            await self._exchange(request, send)

    async def _exchange(self, request: CallRequest, send: Send) -> None:
        response: HttpResponseBase | None = None
        try:
            try:
                response = await cast(Awaitable[HttpResponseBase], self._cors(request))
            except CallerGone:
                return
            except Exception:  # the last border: the view has one of its own
                logger.exception("no answer was made", extra={"request_id": str(request.request_id)})
                response = render(InternalError(), request)
            await self._send(request, response, send)
        except asyncio.CancelledError:
            if not request.incoming_body.caller_gone:
                raise  # not the caller's doing: the server is ending
            this_task = asyncio.current_task()
            assert this_task is not None  # noqa: S101  (an ASGI server always runs a task)
            this_task.uncancel()
        finally:
            request.incoming_body.close()
            if response is not None:
                response.close()

    async def _send(self, request: CallRequest, response: HttpResponseBase, send: Send) -> None:
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        headers.append((b"x-proxy-request-id", str(request.request_id).encode()))
        if request.incoming_request_id:
            headers.append((b"x-incoming-request-id", request.incoming_request_id.encode()))
        start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
        if isinstance(response, RelayResponse):
            await EventStream(response.relay, send, request.scope).run(start)
        elif isinstance(response, HttpResponse):
            if response.status_code not in NO_BODY_STATUSES and not response.has_header("content-length"):
                headers.append((b"content-length", str(len(response.content)).encode()))
            await send(start)
            await send({"type": "http.response.body", "body": response.content})


async def call_view(request: HttpRequest) -> HttpResponseBase:
    match = request.resolver_match
    assert match is not None  # noqa: S101  (the handler set it: the last route matches everything)
    response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
    return response
