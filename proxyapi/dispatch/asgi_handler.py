"""The ASGI application for calls of the API: a lean counterpart of Django's stock handler.

In order: it gives the call its ids, finds the route, calls the view (which asks for the body:
`proxyapi.call.request_body`), and sends the answer. Django's stock handler costs four times as much per call and keeps
a thread for each (ARCHITECTURE.md has the figures). This one keeps what a call needs: the call is cancelled at once
when its caller leaves, and an unexpected error becomes a 500, never a hung connection. Unlike Django's, it does not
close responses, since none of ours has a file or a database connection open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import lru_cache
from typing import cast

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver

from proxyapi.call.call_request import CallRequest, EarlyAnswer
from proxyapi.call.caller_connection import Receive, Scope, Send
from proxyapi.exceptions import CallerGone, InternalError, UpstreamUnreachable, render
from proxyapi.streams.relay import EventRelay, RelayResponse
from proxyapi.streams.response_head import head_of
from proxyapi.streams.sending import EventStream, send_whole, time_limit
from proxyapi.unauthenticated.answer_pace import stranger_pace

logger = logging.getLogger(__name__)

# Longer paths are not stored in the cache of routes, because anybody can send them and could fill the memory.
LONGEST_KEPT_PATH = 200


class CallHandler:
    """ASGI application for all paths in `proxyapi.urls`: the API, and the pages beside it."""

    def __init__(self) -> None:
        self._resolver = get_resolver("proxyapi.urls")
        # Loads the views now: the first call would do it, and all others would wait.
        self._resolver.url_patterns  # noqa: B018  (the attribute loads them)
        self._resolve_kept = lru_cache(maxsize=1024)(self._resolver.resolve)
        self._cors = CorsMiddleware(call_view)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request, then gives back what the call holds, such as its slot among the calls in flight."""
        request = CallRequest(scope, receive, send)
        request.resolver_match = self._resolve(request.path_info)
        with request.resources:
            await self._exchange(request, send)

    def _resolve(self, path: str) -> ResolverMatch:
        """Returns the view for a path, as a `ResolverMatch`; a slash at the end of the path does not matter."""
        path = "/" + path.removeprefix("/").rstrip("/")  # `OPTIONS *` has no leading slash
        return self._resolve_kept(path) if len(path) <= LONGEST_KEPT_PATH else self._resolver.resolve(path)

    async def _exchange(self, request: CallRequest, send: Send) -> None:
        """Runs the view for one request, and sends the view's response to the client.

        On any failure the client gets an error, or its connection is closed.
        """
        # Nobody may wait for ever, whatever goes wrong.
        response: HttpResponseBase | None = None
        try:
            try:
                response = await self._answer(request)
            except CallerGone:
                raise
            except Exception:  # the last border, behind that of the view
                logger.exception("no answer was made", extra={"request_id": request.request_id})
                response = render(InternalError(), request)
            await self._send(request, response, send)
        except CallerGone:
            pass  # nobody is left to be answered; an answer may have begun while a form was still arriving
        except TimeoutError:
            request.connection.abort()
        except asyncio.CancelledError:
            if not request.incoming_body.caller_gone:
                raise  # the server is stopping
            this_task = asyncio.current_task()
            assert this_task is not None  # noqa: S101  (an ASGI server always runs a task)
            this_task.uncancel()
        except Exception:  # the last border of an answer that has begun: its connection can only be cut
            logger.exception("an answer was broken off", extra={"request_id": request.request_id})
            request.connection.abort()
        finally:
            if isinstance(response, RelayResponse):
                response.relay.end.close()  # the caller may have left before the answer could begin
            request.incoming_body.close()
            if request.early_stream is not None:
                await request.early_stream.stop()
            if request.caller_deadline is not None:
                await request.caller_deadline.stop()
                request.caller_deadline = None  # else a reference cycle would keep the call's body

    async def _answer(self, request: CallRequest) -> HttpResponseBase:
        """Returns the response to a request: the view's, with CORS headers if a web page of another origin asks.

        A CORS preflight is answered without the view.
        """
        if request.method == "OPTIONS" or "HTTP_ORIGIN" in request.META:
            return await cast(Awaitable[HttpResponseBase], self._cors(request))
        return await call_view(request)

    async def _send(self, request: CallRequest, response: HttpResponseBase, send: Send) -> None:
        """Sends a response to the client, whole or as a stream.

        * The response to a sender without a valid key may be delayed.
        * The connection closes after the response if the request's body has not arrived whole, unless it is short.
        * Nothing is sent if the caller left, or got status 504, while the call went on upstream.
        """
        if request.caller_deadline is not None:
            await request.caller_deadline.stop()
        if request.incoming_body.left_at is not None:
            if isinstance(response, RelayResponse):
                response.relay.end.close()
            return
        # A response goes out at once if the request, or one before it on the connection, had a valid key. For an error
        # only the request counts, since behind a proxy many clients share a connection.
        is_refused = response.status_code >= 400
        if not request.sender_is_known and (is_refused or not request.connection.is_known):
            await stranger_pace.wait(request.META.get("REMOTE_ADDR", ""))
        if not (request.connection.has_whole_body or request.body_can_be_skipped):
            request.connection.close_behind_answer(discard=request.sender_is_known)
        if request.early_stream is not None:
            await request.early_stream.stop()
            if request.early_stream.has_begun:
                await self._continue_early_answer(request, request.early_stream, response, send)
                return
        if isinstance(response, RelayResponse) and request.method == "HEAD":
            await response.relay.end.finish_without_body()
            await send(head_of(request, response))
            await send({"type": "http.response.body", "body": b""})
        elif isinstance(response, RelayResponse):
            start = head_of(request, response)
            await EventStream(response.relay, send, request.connection, request.scope["http_version"]).run(start)
        elif isinstance(response, HttpResponse):
            await send_whole(request, response)

    async def _continue_early_answer(
        self, request: CallRequest, early: EarlyAnswer, response: HttpResponseBase, send: Send
    ) -> None:
        """Sends a response to a client that has already got the head of an event stream.

        An event stream from upstream is passed on. Any other stream is replaced by one event with an error. A response
        that is no stream is sent as one event.
        """
        # The head was sent because upstream did not answer soon (`proxyapi.streams.early_stream`).
        if isinstance(response, RelayResponse) and isinstance(response.relay, EventRelay):
            response.relay.has_commented = True
            await EventStream(response.relay, send, request.connection, request.scope["http_version"]).run(None)
            return
        if isinstance(response, RelayResponse):
            error = UpstreamUnreachable("The call asked for a stream of events, and upstream's answer is none.")
            response.relay.end.fail(error)
            response.relay.end.close()
            event = early.error_event(error)
        else:
            event = early.event_of(cast(HttpResponse, response))
        async with time_limit(request):
            await send({"type": "http.response.body", "body": event})


async def call_view(request: HttpRequest) -> HttpResponseBase:
    """Runs the view in `request.resolver_match`, and returns the view's response."""
    match = request.resolver_match
    assert match is not None  # noqa: S101  (the handler set it: the last route matches everything)
    # The view class is used directly: `func` is a wrapper around it that only Django's stock handler needs.
    view = match.func.view_class()  # type: ignore[attr-defined]  # set by as_view
    view.setup(request, *match.args, **match.kwargs)
    response: HttpResponseBase = await view.dispatch(request, *match.args, **match.kwargs)
    return response
