"""Begins the answer to a call that asks for a stream before upstream has begun to answer.

A model may think for minutes and send nothing, but proxies and clients close silent connections. So after
`SSE_KEEPALIVE_SECONDS` without an answer, the caller gets the head of an event stream with status 200, and then a
comment every `SSE_KEEPALIVE_SECONDS`. Upstream nearly always answers sooner; then the caller gets upstream's own head.

After an early head, an answer that is no stream is converted to one event: an error to an error event of the kind that
the call's stream has, any other body to the data of an event.
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
from proxyapi.limits.output_limits import OUTPUT_LIMIT_HEADER
from proxyapi.streams import sse
from proxyapi.streams.relay import Dialect
from proxyapi.streams.response_head import Head, head_of
from usage.answers.errors import error_in_body

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class EarlyStream:
    """The start of an event stream that is sent to a caller while upstream is silent: a head, then keep-alive comments.

    It begins `SSE_KEEPALIVE_SECONDS` after the creation of this object, or later: only once the call has asked for a
    stream and the request has arrived whole. It never begins after `stop`. `has_begun` tells whether it has begun.
    """

    def __init__(self, call: Call, dialect: Dialect) -> None:
        self.has_begun = False
        self._call = call
        self._dialect = dialect
        self._task: asyncio.Task[None] | None = None
        self._timer = self._start_timer()

    async def stop(self) -> None:
        """Stops the timer and the comments of the early stream, because upstream has answered or the call has ended.

        Afterwards only the call's handler sends to the caller.
        """
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def event_of(self, response: HttpResponse) -> bytes:
        """Converts a whole response to one server-sent event, for a caller who has already got the head of a stream.

        The body of a success becomes the event's data; an error becomes an error event.
        """
        body = bytes(response.content)
        if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            return sse.event_of(body)
        facts = error_in_body(body, response.status_code)
        if self._dialect.error_event is sse.error_object and sse.is_error_object(body):
            return sse.event_of(body)
        code = facts["code"] or f"http_{response.status_code}"
        return self.error_event(UpstreamFailure(facts["message"], code=code))

    def error_event(self, error: ProxyError) -> bytes:
        """Converts a gateway error to one server-sent event, for a caller who has already got the head of a stream."""
        return self._dialect.error_event(error, self._call.request.request_id, b"")

    def _start_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(settings.SSE_KEEPALIVE_SECONDS, self._begin)

    def _begin(self) -> None:
        """Starts the early stream; if it cannot start yet, starts the timer for another attempt.

        It can start once the call has asked for a stream, the request has arrived whole, and the caller's socket takes
        bytes.
        """
        connection = self._call.request.connection
        # The last field of a form may be the one that asks for a stream. A call that asks for none never gets this
        # head.
        if self._call.facts.stream and connection.has_whole_body and connection.takes_bytes:
            self._task = asyncio.create_task(self._run(self._call.request))
        else:
            self._timer = self._start_timer()

    async def _run(self, request: CallRequest) -> None:
        """Sends the caller the head of a stream, then a comment every `SSE_KEEPALIVE_SECONDS`, until cancelled.

        Stores the status of the head, 200, in the call's facts for the ledger.
        """
        try:
            self.has_begun = True
            self._call.facts.early_status = HTTPStatus.OK.value
            if request.scope["http_version"] == "1.0":
                request.connection.answer_until_close()
            await request.send(self._head(request))
            while True:
                # A comment that waits for the caller's socket could be cut in half when `stop` cancels this task: it is
                # left out.
                if request.connection.takes_bytes:
                    await request.send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
                await asyncio.sleep(settings.SSE_KEEPALIVE_SECONDS)
        except CallerGone:
            pass  # the connection tells the call that its caller has left

    def _head(self, request: CallRequest) -> Head:
        """Builds the ASGI message that begins an event stream before upstream has answered: status 200 and headers.

        A call from a browser gets CORS headers, too.
        """
        response = HttpResponse(headers=HEADERS)
        if (limit := self._call.facts.output_limit) is not None:
            response[OUTPUT_LIMIT_HEADER] = str(limit.tokens)
        if "HTTP_ORIGIN" in request.META:
            CorsMiddleware(lambda _: response).add_response_headers(request, response)
        return head_of(request, response)
