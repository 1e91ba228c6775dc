"""Begins the answer to a call that asks for a stream before upstream has begun to answer.

A model may think for minutes and send nothing meanwhile, and proxies and clients close silent connections. After
`SSE_KEEPALIVE_SECONDS` without an answer the caller gets the head of an event stream, status 200, and then a comment
each time these seconds have passed again. A call that upstream answers sooner, as it nearly always does, gets
upstream's own head.

Once this head has been sent, an answer that is no stream becomes an event: an error in the dialect of the call, any
other body as the data of one event.
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
    """The beginning of an event stream that a caller gets while upstream is still silent: a head, and then comments.

    They keep the caller's connection open. The stream begins, at the earliest, `SSE_KEEPALIVE_SECONDS` after this
    object was made, unless `stop` is called before. `has_begun` is True from then on.
    """

    def __init__(self, call: Call, dialect: Dialect) -> None:
        self.has_begun = False
        self._call = call
        self._dialect = dialect
        self._task: asyncio.Task[None] | None = None
        self._timer = self._start_timer()

    async def stop(self) -> None:
        """Stops the timer that begins the early stream, and the comments in it, because upstream has answered.

        From then on, only the call's own handler sends the caller anything.
        """
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def event_of(self, response: HttpResponse) -> bytes:
        """Converts a whole response to one server-sent event, because the caller has already got the head of a stream.

        The body of a success becomes the data of the event; an error of upstream's becomes an error event.
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
        """Converts an error of the gateway to one server-sent event, since a stream's head has already been sent."""
        return self._dialect.error_event(error, self._call.request.request_id, b"")

    def _start_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(settings.SSE_KEEPALIVE_SECONDS, self._begin)

    def _begin(self) -> None:
        """Starts the task that sends the caller a head and comments or, if it is too early, starts the timer again.

        It is too early in two cases. The caller's socket takes no bytes, or the request has not arrived whole: the last
        field of a form may be the one that asks for a stream. A call that asks for no stream never gets this head.
        """
        connection = self._call.request.connection
        if self._call.facts.stream and connection.has_whole_body and connection.takes_bytes:
            self._task = asyncio.create_task(self._run(self._call.request))
        else:
            self._timer = self._start_timer()

    async def _run(self, request: CallRequest) -> None:
        """Sends the caller the head of a stream, and then a comment every `SSE_KEEPALIVE_SECONDS`, until cancelled.

        When upstream has answered, `stop` cancels the task in which this method runs. The cancellation could cut in
        half a comment that waits for the caller's socket. So a comment that would have to wait is not sent.
        """
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
            pass  # the connection tells the call that its caller has left

    def _head(self, request: CallRequest) -> Head:
        """Builds the ASGI message with the head of an event stream (status 200) that begins before upstream answers.

        For a call from a browser the head has CORS headers.
        """
        response = HttpResponse(headers=HEADERS)
        if (limit := self._call.facts.output_limit) is not None:
            response[OUTPUT_LIMIT_HEADER] = str(limit.tokens)
        if "HTTP_ORIGIN" in request.META:
            CorsMiddleware(lambda _: response).add_response_headers(request, response)
        return head_of(request, response)
