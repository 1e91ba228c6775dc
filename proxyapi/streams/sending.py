"""Sends answers to their callers: whole ones, and streams with comments in the pauses between their chunks.

A stream ends cleanly or by a cut connection. To show that an answer is broken, the final ASGI message is left out:
uvicorn then closes the socket without a clean end. If a caller takes no more bytes until the deadline, its connection
is cut, and the bytes that wait for it are dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext

from django.conf import settings
from django.http import HttpResponse

from proxyapi.call.call_request import CallRequest
from proxyapi.call.caller_connection import CallerConnection, Send
from proxyapi.exceptions import CallerGone, InternalError
from proxyapi.streams.relay import Relay
from proxyapi.streams.response_head import Head, fields_of, lines_of, message_of

# How long a stream may go on after its call's deadline, so that the event that reports the timeout can be sent.
GRACE_SECONDS = 1.0
NO_BODY_STATUSES = {204, 304}
NO_TIMEOUT = nullcontext()


async def send_whole(request: CallRequest, response: HttpResponse) -> None:
    """Sends the caller a response with its whole body, which is in memory."""
    status, fields, body = response.status_code, fields_of(request, response), response.content
    if status not in NO_BODY_STATUSES:
        if not response.has_header("content-length"):
            fields.append(("content-length", str(len(body))))
        if request.method != "HEAD" and request.connection.send_whole(status, lines_of(fields), body):
            return
    async with time_limit(request):
        await request.send(message_of(status, fields))
        await request.send({"type": "http.response.body", "body": body})


def time_limit(request: CallRequest) -> AbstractAsyncContextManager[object]:
    """Returns a context manager for sending a whole answer, with the time limit `REQUEST_TIMEOUT` if sending may block.

    It may block if the client's socket takes no bytes, or if the request is a HEAD. Otherwise there is no limit.
    """
    # A client that has sent several requests on one connection may not read the answer to an earlier one. Setting a
    # limit takes a thirtieth of the time of a call.
    waits = not request.connection.takes_bytes or request.method == "HEAD"
    return asyncio.timeout(settings.REQUEST_TIMEOUT) if waits else NO_TIMEOUT


class EventStream:
    """Sender that passes an answer to the caller while upstream is still sending it; a `Relay` supplies the bytes."""

    def __init__(self, relay: Relay, send: Send, connection: CallerConnection, http_version: str) -> None:
        self._relay = relay
        self._send = send
        self._connection = connection
        self._has_chunks = http_version != "1.0"

    async def run(self, start: Head | None) -> None:
        """Sends the caller the head `start`, then the whole answer, and ends the call.

        `start` is None if the head was sent before. The connection is cut if the answer breaks off, or if the caller
        has not taken all of it `GRACE_SECONDS` after the call's deadline.

        Raises:
            CallerGone: the caller has hung up.
        """
        relay = self._relay
        if not self._has_chunks:
            self._connection.answer_until_close()
        try:
            async with asyncio.timeout_at(relay.deadline + GRACE_SECONDS):
                async with self._comments(), aclosing(relay.chunks(self._connection.send_now)) as chunks:
                    if start is not None:
                        await self._send(start)
                    async for chunk in chunks:
                        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                relay.end.close()  # first: the next message may wait for a caller that takes no more bytes
                if self._has_chunks and not relay.end.is_broken:
                    await self._send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            self._connection.abort()
            return
        except CallerGone:
            raise
        except Exception:  # the border: a fault of the gateway's, not the caller's departure
            relay.end.fail(InternalError())
            raise
        finally:
            relay.end.close()
        if relay.end.is_broken and not self._has_chunks:
            self._connection.abort()  # a mere close would be a clean end

    @asynccontextmanager
    async def _comments(self) -> AsyncIterator[None]:
        """Context manager that sends the caller keep-alive comments until the `with` block ends.

        Sends none if `SSE_KEEPALIVE_SECONDS` is 0.
        """
        comments = asyncio.create_task(self._send_comments()) if settings.SSE_KEEPALIVE_SECONDS else None
        try:
            yield
        finally:
            if comments is not None:
                comments.cancel()
                await asyncio.wait({comments})

    async def _send_comments(self) -> None:
        """Sends the caller a comment whenever nothing was sent for `SSE_KEEPALIVE_SECONDS`, until cancelled.

        Sends no comment within an event, or while the caller's socket takes no bytes.
        """
        pause = settings.SSE_KEEPALIVE_SECONDS
        while True:
            await asyncio.sleep(pause)
            quiet = time.perf_counter() - self._relay.last_sent
            pause = settings.SSE_KEEPALIVE_SECONDS
            if quiet < pause:
                pause -= quiet
                continue
            # A comment that had to wait for the caller's socket could end up inside an event.
            if self._relay.may_comment and self._connection.takes_bytes:
                self._relay.has_commented = True
                await self._send({"type": "http.response.body", "body": self._relay.comment, "more_body": True})
