"""Owns the ASGI side of an API call: the lean counterpart of Django's stock handler.

In order: ids, route, the body under its cap, the view, the answer. Django's
stock handler costs four times as much per call and keeps a thread for each (ARCHITECTURE.md has
the figures). What it does for a call is done here: the caller's departure cancels the call at
once, an answer is closed exactly once, and a fault becomes a 500, never a hung connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from proxyapi.capacity import capacity
from proxyapi.exceptions import BodyTooLarge, InternalError, ProxyError, RequestTimeout, ShuttingDown, render
from proxyapi.relay import RelayResponse
from proxyapi.requests import CallRequest
from proxyapi.streaming import EventStream, Send

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# A form's fields and part headers, beside the file that MAX_UPLOAD_BYTES allows.
FORM_ALLOWANCE = 1024 * 1024
NO_BODY_STATUSES = {204, 304}


class CallerGone(Exception):
    """The caller hung up before its request was complete."""


class CallHandler:
    """An ASGI application for the paths of `proxyapi.urls`."""

    def __init__(self) -> None:
        self._resolver = get_resolver("proxyapi.urls")
        self._cors = CorsMiddleware(call_view)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        request = CallRequest(scope)
        match = self._resolver.resolve("/" + request.path_info.removeprefix("/").rstrip("/"))  # `OPTIONS *` has none
        request.resolver_match = match
        with request.place:
            try:
                if cast(Any, match.func).cls.takes_capacity:  # DRF's `as_view` names the class
                    capacity.check_room()  # said before the body is sent; a stranger takes no place
                request.set_body(await self._read_body(request, receive))
            except CallerGone:
                return
            except ProxyError as refusal:
                request.refusal = refusal
            await self._exchange(request, receive, send)

    async def _read_body(self, request: CallRequest, receive: Receive) -> bytes:
        is_form = request.META.get("CONTENT_TYPE", "").lower().startswith("multipart/")
        limit = settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE if is_form else settings.MAX_BODY_BYTES
        too_large = BodyTooLarge(f"The request body is larger than {limit} bytes.")
        announced = request.META.get("CONTENT_LENGTH", "")
        if announced.isdecimal() and int(announced) > limit:
            raise too_large
        try:
            async with asyncio.timeout(settings.REQUEST_TIMEOUT) as patience:
                with capacity.receiving(patience):
                    return await self._join_body(receive, limit, too_large)
        except TimeoutError:
            raise (ShuttingDown() if capacity.draining else RequestTimeout()) from None

    @staticmethod
    async def _join_body(receive: Receive, limit: int, too_large: BodyTooLarge) -> bytes:
        pieces: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise CallerGone
            pieces.append(message["body"])
            size += len(message["body"])
            if size > limit:
                raise too_large
            more = message["more_body"]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _exchange(self, request: CallRequest, receive: Receive, send: Send) -> None:
        this_task = asyncio.current_task()
        assert this_task is not None  # noqa: S101  (an ASGI server always runs a task)
        departure = asyncio.create_task(self._watch_departure(receive, this_task))
        response: HttpResponseBase | None = None
        try:
            try:
                response = await cast(Awaitable[HttpResponseBase], self._cors(request))
            except Exception:  # the last border: the view has one of its own
                logger.exception("no answer was made", extra={"request_id": str(request.request_id)})
                response = render(InternalError(), request)
            await self._send(request, response, send)
        except asyncio.CancelledError:
            if not (departure.done() and not departure.cancelled()):
                raise  # not the caller's doing: the server is ending
            this_task.uncancel()
        finally:
            departure.cancel()
            if response is not None:
                response.close()

    @staticmethod
    async def _watch_departure(receive: Receive, call: asyncio.Task[Any]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        call.cancel()

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
