"""Owns the answer to a call that asks for a stream while upstream has not begun to answer.

A model that thinks for minutes says nothing in that time, and proxies and clients close a silent connection. After
`SSE_KEEPALIVE_SECONDS` without an answer the caller gets the head of an event stream, status 200, and then a comment
each time these seconds have passed again. A call that is answered sooner, nearly every one, gets upstream's own head.

Once the head is out, an answer that is no stream is told as an event: an error in the words of the call's dialect, a
JSON body as the data of one event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from django.conf import settings
from django.http import HttpResponse

from proxyapi import sse
from proxyapi.exceptions import CallerGone, ProxyError, UpstreamError
from usage.error_words import body_error

if TYPE_CHECKING:
    from proxyapi.calls import Call
    from proxyapi.relay import Dialect
    from proxyapi.requests import CallRequest
    from proxyapi.streaming import Send

MakeHead = Callable[[HttpResponse], dict[str, object]]


class EarlyStream:
    """The wait of one call for its answer. `has_begun` once a head has been sent."""

    def __init__(self, call: Call, dialect: Dialect) -> None:
        self.has_begun = False
        self._call = call
        self._dialect = dialect
        self._task: asyncio.Task[None] | None = None
        self._timer = self._start_timer()

    async def stop(self) -> None:
        """Sends nothing more. `has_begun` then says whether the answer goes behind a head of ours."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def event_of(self, response: HttpResponse) -> bytes:
        """An answer that was read whole, as the only event of the stream."""
        body = bytes(response.content)
        if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            return sse.event_of(body)
        facts = body_error(body)
        words = facts["message"] or f"Upstream answered with status {response.status_code}, without words."
        error = UpstreamError(words, kind=facts["type"], code=facts["code"])
        return self._dialect.error_event(error, self._call.request.request_id, b"")

    def refuse(self, error: ProxyError) -> bytes:
        """The event that tells the caller of an error of ours."""
        return self._dialect.error_event(error, self._call.request.request_id, b"")

    def _start_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(settings.SSE_KEEPALIVE_SECONDS, self._begin)

    def _begin(self) -> None:
        request = self._call.request
        # A form says in its last field whether it asks for a stream, and nothing is answered before its end.
        if self._call.stream and request.connection.has_whole_body and request.connection.takes_bytes:
            self._task = asyncio.create_task(self._send_comments(request))
        else:
            self._timer = self._start_timer()

    async def _send_comments(self, request: CallRequest) -> None:
        """The caller takes bytes whenever something is sent, so no sending waits, and none is cut by `stop`."""
        send: Send = request.send
        try:
            self.has_begun = True
            self._call.told_status = HTTPStatus.OK
            if request.scope["http_version"] == "1.0":
                request.connection.answer_until_close()
            await send(request.make_head(HttpResponse(headers=HEADERS)))
            while True:
                if request.connection.takes_bytes:
                    await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
                await asyncio.sleep(settings.SSE_KEEPALIVE_SECONDS)
        except CallerGone:
            pass  # the call itself hears of it from the connection


HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
MakesAnswer = Callable[[], Awaitable[None]]
