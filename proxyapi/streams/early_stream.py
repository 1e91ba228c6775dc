"""Owns the answer to a call that asks for a stream while upstream has not begun to answer.

A model that thinks for minutes says nothing in that time, and proxies and clients close a silent connection. After
`SSE_KEEPALIVE_SECONDS` without an answer the caller gets the head of an event stream, status 200, and then a comment
each time these seconds have passed again. A call that is answered sooner, as nearly every one is, gets upstream's own
head.

Once this head is out, an answer that is no stream is told as an event: an error in the dialect of the call, any other
body as the data of one event.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpResponse

from proxyapi.call.call import Call
from proxyapi.call.call_request import CallRequest
from proxyapi.exceptions import CallerGone, ProxyError, UpstreamFailure
from proxyapi.streams import sse
from proxyapi.streams.relay import Dialect
from proxyapi.streams.response_head import Head, head_of
from usage.answers.errors import error_in_body

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class EarlyStream:
    """The wait of one call for its answer. `has_begun` becomes true when a head has been sent."""

    def __init__(self, call: Call, dialect: Dialect) -> None:
        self.has_begun = False
        self._call = call
        self._dialect = dialect
        self._task: asyncio.Task[None] | None = None
        self._timer = self._start_timer()

    async def stop(self) -> None:
        """Ends the wait: no comment is sent any more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def event_of(self, response: HttpResponse) -> bytes:
        """Returns the answer, which is whole, as the only event of the stream."""
        body = bytes(response.content)
        if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            return sse.event_of(body)
        facts = error_in_body(body, response.status_code)
        if self._dialect.error_event is sse.error_object and sse.is_error_object(body):
            return sse.event_of(body)
        code = facts["code"] or f"http_{response.status_code}"
        return self.error_event(UpstreamFailure(facts["message"], code=code))

    def error_event(self, error: ProxyError) -> bytes:
        return self._dialect.error_event(error, self._call.request.request_id, b"")

    def _start_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(settings.SSE_KEEPALIVE_SECONDS, self._begin)

    def _begin(self) -> None:
        """Sends the head, unless it must wait: a form says in its last field whether it asks for a stream."""
        connection = self._call.request.connection
        if self._call.facts.stream and connection.has_whole_body and connection.takes_bytes:
            self._task = asyncio.create_task(self._run(self._call.request))
        else:
            self._timer = self._start_timer()

    async def _run(self, request: CallRequest) -> None:
        """Nothing is sent that would wait for the caller, so `stop` cuts no message."""
        try:
            self.has_begun = True
            self._call.facts.early_status = HTTPStatus.OK.value
            if request.scope["http_version"] == "1.0":
                request.connection.answer_until_close()
            await request.send(self._head(request))
            while True:
                if request.connection.takes_bytes:
                    await request.send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
                await asyncio.sleep(settings.SSE_KEEPALIVE_SECONDS)
        except CallerGone:
            pass  # the connection tells the call of it

    def _head(self, request: CallRequest) -> Head:
        response = HttpResponse(headers=HEADERS)
        if "HTTP_ORIGIN" in request.META:
            CorsMiddleware(lambda _: response).add_response_headers(request, response)
        return head_of(request, response)
