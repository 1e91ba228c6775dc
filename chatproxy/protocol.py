"""Owns HTTP at the socket: uvicorn's protocol, with a bound on a request's head, and its one error in JSON.

Each call finds it in its scope, as `proxyapi.connection.Connection`: ASGI has no words for what is asked there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxyapi.headers import INERT

# Request line and headers; uvicorn alone takes as many as a client likes to send. A read may add 256 KiB to it.
MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
INERT_LINES = b"".join(b"%b: %b\r\n" % pair for pair in INERT)
# Requests that may wait behind the one that is answered, and be read meanwhile.
MOST_QUEUED = 16
# Between the end of an answer and the close of a connection on which more of a body may be coming: a close with unread
# bytes resets the connection, and a client that is still sending might lose the answer.
LINGER_SECONDS = 1.0
# What a caller with a key goes on sending meanwhile is read and dropped, since many clients send all before they read.
DISCARD_SECONDS = 30.0
MAX_DISCARDED_BYTES = 64 * 1024 * 1024


class JoiningTransport:
    """uvicorn's way to the socket, on which a head can wait for its body: one system call, one packet."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._holding = False
        self._held = b""
        self._linger: Callable[[], None] | None = None
        self._lingers = False

    def linger(self, linger: Callable[[], None]) -> None:
        """The next close calls `linger`, which closes later; the one after it closes at once."""
        self._linger = linger

    def hold_next(self) -> None:
        self._holding = True

    def write(self, data: bytes) -> None:
        if self._holding:
            self._holding = False
            self._held = data
        elif self._held:
            self._transport.writelines([self._held, data])
            self._held = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""
        if self._linger is not None and not self.is_closing():
            self._lingers = True
            self._transport.write_eof()
            self._linger()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._lingers or bool(self._transport.is_closing())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """Counts what arrives before the head of a request is complete, and tells the running call of a hang-up."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._head_bytes = 0
        self._running: RequestResponseCycle | None = None
        self._departed: Callable[[], None] | None = None  # to be told when the running call's client hangs up
        self._head_timer: asyncio.TimerHandle | None = None
        self._heard_enough = False  # what comes now is read for the end behind it only
        self._discardable = 0  # bytes of a body that nobody reads

    def connection_made(self, transport: Any) -> None:
        self._joining = JoiningTransport(transport)
        super().connection_made(cast(asyncio.Transport, self._joining))
        self._expect_head()

    # What a call may ask.

    @property
    def has_whole_body(self) -> bool:
        return self._running is not None and not self._running.more_body

    @property
    def takes_bytes(self) -> bool:
        return not self.flow.write_paused

    def watch_departure(self, departed: Callable[[], None]) -> None:
        self._departed = departed
        self.flow.resume_reading()  # a large body has paused it, and whoever does not read sees no end

    def forget_departure(self, departed: Callable[[], None]) -> None:
        if self._departed == departed:
            self._departed = None

    def body_follows(self) -> None:
        self._joining.hold_next()

    def send_now(self, chunk: bytes) -> bool:
        running = self._running
        if running is None or running.disconnected or not running.chunked_encoding or self.flow.write_paused:
            return False
        if chunk:  # an empty one would end the answer
            self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return True

    def close_behind_answer(self, *, discard: bool) -> None:
        assert self._running is not None  # noqa: S101  (an answer is being made)
        self._running.keep_alive = False
        self._discardable = MAX_DISCARDED_BYTES if discard else 0
        self._joining.linger(self._linger)

    def _linger(self) -> None:
        """The answer has been sent, and some of its request's body is still unread."""
        self._heard_enough = True
        if self._discardable:
            self.flow.resume_reading()
        else:
            self.transport.pause_reading()
        self.loop.call_later(DISCARD_SECONDS if self._discardable else LINGER_SECONDS, self.transport.close)

    def abort(self) -> None:
        self.transport.abort()

    def answer_until_close(self) -> None:
        assert self._running is not None  # noqa: S101  (an answer is being made)
        self._running.keep_alive = False
        self._running.chunked_encoding = False
        self._running.expected_content_length = sys.maxsize

    # What uvicorn and the socket say.

    def data_received(self, data: bytes) -> None:
        if self._heard_enough:
            self._discardable -= len(data)
            if self.transport.is_closing() and self._discardable < 0:
                self.transport.close()
            return
        if self._in_head:  # since an earlier read: the one in which a head begins may have a body before it
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too large.")
        # An idle one may have sent what is no head yet: empty lines.
        elif self._head_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells the newest request only: one that runs, with others pipelined behind it, would go on."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            if self._departed is not None:
                self._departed()
        self._cancel_head_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_head_timer()
        self.scope["extensions"] = {"chatproxy": {"connection": self}}
        super().on_headers_complete()
        # uvicorn reads no more while a request waits for its turn, and then nobody would see a hang-up.
        if self._departed is not None and len(self.pipeline) < MOST_QUEUED:
            self.flow.resume_reading()

    def _expect_head(self) -> None:
        """A connection that does not say what it wants is closed."""
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._no_head_came)

    def _no_head_came(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._expect_head()  # what comes behind a request has time until that is answered

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        """The answer to what is not HTTP; there is no request, so no request id. Never in the place of another's."""
        newest, running = self.cycle, self._running
        before = running if running is not newest and running is not None and not running.response_complete else None
        if before is not None and newest.more_body:  # the fault is in the body of one that waits
            self.pipeline.popleft()
            newest = self.pipeline[0][0] if self.pipeline else before
        if newest is not None and not newest.response_complete and (before is not None or not newest.more_body):
            newest.keep_alive = False  # this came behind it
            self._heard_enough = True
            self._in_head = False
            self._cancel_head_timer()
            return
        if newest is not None and not newest.response_complete and newest.response_started:
            self.transport.close()
            return
        error = {"message": msg, "type": "invalid_request_error", "param": None, "code": "bad_request"}
        body = json.dumps({"error": {**error, "request_id": None}}).encode()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n" + INERT_LINES
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self.transport.close()
