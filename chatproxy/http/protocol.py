"""Owns HTTP at the socket: uvicorn's protocol, with bounds on a request's head and framing, and its one error in JSON.

Each call finds it in its scope, as `proxyapi.call.caller_connection.CallerConnection`: ASGI has no words for what is
asked there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chatproxy.http.connections import Connections, Network
from chatproxy.http.joining_transport import JoiningTransport
from chatproxy.http.reading_turns import reading_turns
from chatproxy.http.slow_readers import MIN_STRANGER_BYTES_PER_SECOND, StallWatch
from chatproxy.http.upgrades import BehindHead, head_without_offer, make_parser
from proxyapi.exceptions import BadRequest, ProxyError, TooManyConnections
from proxyapi.strangers.answer_pace import stranger_pace
from proxyapi.upstream.passed_headers import INERT

# Request line and headers; uvicorn alone takes as many as a client likes to send. A read may add 256 KiB to it.
MAX_HEAD_BYTES = 64 * 1024
# Each line costs as much as 100 bytes; Apache takes 100 of them.
MAX_HEADERS = 200
# What a body in chunks may have around its content: sizes, extensions, trailers. Beyond it, as much as it has content;
# of a client that has shown no good key an eighth of both, since chunks of a few bytes cost as much as large ones.
MAX_FRAMING_BYTES = 64 * 1024
STRANGER_FRAMING_SHARE = 8
# What such a client sends is parsed in pieces of this size, so that a fault or a good key is found before the rest is;
# `chatproxy.http.reading_turns` says when.
STRANGER_READ_BYTES = 4 * 1024
HEAD_SECONDS = 30.0
INVALID = "Invalid HTTP request received."
INERT_LINES = b"".join(b"%b: %b\r\n" % pair for pair in INERT)
# Requests that may wait behind the one that is answered, and be read meanwhile.
MOST_QUEUED = 16
# Between the end of an answer and the close of a connection on which more of a body may be coming: a close with unread
# bytes resets the connection, and a client that is still sending might lose the answer.
LINGER_SECONDS = 1.0
# What a caller with a key goes on sending meanwhile is read and dropped, since many clients send all before they read.
DISCARD_SECONDS = 30.0
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
# How long a connection may be idle that has never shown a good key; the others have gunicorn's `keepalive`.
STRANGER_KEEPALIVE_SECONDS = 15


class Protocol(HttpToolsProtocol):
    """Counts what arrives before the head of a request is complete, and tells the running call of a hang-up."""

    def __init__(self, *args: Any, connections: Connections | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_known = False  # whether a good key was shown on it
        self.network: Network | None = None  # set by `connections`
        self.is_trusted_proxy = False
        self.timeout_keep_alive = min(STRANGER_KEEPALIVE_SECONDS, self.config.timeout_keep_alive)
        self._connections = Connections() if connections is None else connections
        self._in_head = False
        self._head_bytes = 0
        self._unread = bytearray()  # of what has come
        self._wire_bytes = 0  # of the newest request, since the read in which its head ended
        self._content_bytes = 0  # of its body
        self._running: RequestResponseCycle | None = None
        self._departed: Callable[[], None] | None = None  # to be told when the running call's client hangs up
        self._head_timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._heard_enough = False  # what comes now is read for the end behind it only
        self._discardable = 0  # bytes of a body that nobody reads
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._stall_watch = StallWatch(self.loop, transport, self._least_speed, self._stalled)
        self._joining = JoiningTransport(transport, self._stall_watch.start)
        super().connection_made(cast(asyncio.Transport, self._joining))
        opened = transport.get_extra_info("socket")
        address = self.client[0] if self.client else ""
        self.is_trusted_proxy = self._connections.trusts(address)
        if self._connections.admit(self, address, opened.fileno() if opened else -1):
            self._expect_head()
        else:
            self._refuse_connection()

    # What a call may ask.

    def mark_known(self) -> None:
        if not self.is_known:
            self.is_known = True
            self.timeout_keep_alive = self.config.timeout_keep_alive
            if self._unread:
                self.loop.call_soon(self._read_on)  # what has come need not wait among strangers'

    @property
    def has_whole_body(self) -> bool:
        return self.is_lost or (self._running is not None and not self._running.more_body)

    @property
    def takes_bytes(self) -> bool:
        return not self.flow.write_paused

    def watch_departure(self, departed: Callable[[], None]) -> None:
        if self.is_lost:
            departed()
            return
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
        if self._running is None:  # the connection was lost
            return
        self._running.keep_alive = False
        self._discardable = MAX_DISCARDED_BYTES if discard else 0
        self._joining.linger(self._linger)

    def _linger(self) -> None:
        """The answer has been sent, and some of its request's body is still unread."""
        self._heard_enough = True
        self._unread.clear()
        self._drop_body()
        if self._discardable:
            self.flow.resume_reading()
            self.transport.resume_reading()  # what `_read_on` has paused
        else:
            self.transport.pause_reading()
        seconds = DISCARD_SECONDS if self._discardable else LINGER_SECONDS
        self._linger_timer = self.loop.call_later(seconds, self.transport.close)

    def _drop_body(self) -> None:
        """Frees what has come of a body."""
        for cycle in (self._running, self.cycle):
            if cycle is not None:
                cycle.body = bytearray()

    def abort(self) -> None:
        self.transport.abort()

    def answer_until_close(self) -> None:
        if self._running is None:  # the connection was lost
            return
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
        if self._unread or not (self.is_known or self._is_short_head(data)):
            is_first = not self._unread
            self._unread += data
            self.transport.pause_reading()
            if is_first:
                reading_turns.add(self._read_on)
            return
        self._read(data)

    def _is_short_head(self, data: bytes) -> bool:
        """Whether these bytes are few, and no part of a body of which more was announced before."""
        is_body = self.cycle is not None and self.cycle.more_body
        return len(data) <= STRANGER_READ_BYTES and not is_body

    def _read_on(self) -> bool:
        """Reads the next piece of what a stranger has sent; returns whether there is more."""
        if not self._unread:
            return False
        size = len(self._unread) if self.is_known else STRANGER_READ_BYTES
        piece = bytes(self._unread[:size])
        del self._unread[:size]
        self._read(piece)
        if self._heard_enough or self.transport.is_closing():
            self._discardable -= len(self._unread)
            self._unread.clear()
        if not self._unread and not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
        return bool(self._unread)

    def _read(self, data: bytes) -> None:
        if self._in_head:  # since an earlier read: the one in which a head begins may have a body before it
            self._head_bytes += len(data)
        else:
            self._wire_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            has_too_many = self._in_head and len(self.headers) > MAX_HEADERS
            words = f"The request has more than {MAX_HEADERS} headers." if has_too_many else INVALID
            self.send_400_response(words)
            return
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too large.")
        elif self._has_too_much_framing():
            self.send_400_response("The chunks of the request's body are too small, or its trailers too large.")
        # An idle one may have sent what is no head yet: empty lines.
        elif self._head_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def _has_too_much_framing(self) -> bool:
        framing = self._wire_bytes - self._content_bytes
        if framing <= MAX_FRAMING_BYTES // STRANGER_FRAMING_SHARE or self.cycle is None or not self.cycle.more_body:
            return False
        share = 1 if self.is_known else STRANGER_FRAMING_SHARE
        return framing > (MAX_FRAMING_BYTES + self._content_bytes) // share

    def _parse(self, data: bytes) -> None:
        """Raises `httptools.HttpParserError` for what is not HTTP."""
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                (end_of_head,) = offer.args
                rest = memoryview(rest)[end_of_head:]
                head = head_without_offer(self.parser.get_http_version(), self.headers)
                self.parser = make_parser(BehindHead(self))
                self.parser.feed_data(head)
            else:
                return

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Starts a call, once the client has taken the answers before it: else they would pile up in memory."""
        if self.flow.write_paused and not self.transport.is_closing():
            self.pipeline.append((cycle, app))  # the next one to start
            self.flow.pause_reading()
            return
        self._running = cycle
        self._connections.remove_idle(self)
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells the newest request only: one that runs, with others pipelined behind it, would go on."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            if self._departed is not None:
                self._departed()
        self._cancel_head_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._connections.remove(self)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._break_cycles()

    def _break_cycles(self) -> None:
        """Breaks the reference cycles through this object: the garbage collector runs too rarely to wait for it.

        A call that still runs has its own references to its scope and to its `RequestResponseCycle`.
        """
        self.is_lost = True
        self._unread.clear()
        self._drop_body()
        self._departed = None
        self._running = None
        del self.cycle, self.scope
        self.pipeline.clear()
        self._stall_watch.forget_callbacks()
        self._joining.forget_callbacks()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is dropped, as RFC 9110, 6.5.1 allows: the call has its headers already
            super().on_header(name, value)
            if len(self.headers) > MAX_HEADERS:
                raise ValueError  # the parser makes a fault of its own of it

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wire_bytes = self._content_bytes = 0
        self._cancel_head_timer()
        self.scope["extensions"] = {"chatproxy": {"connection": self}}
        super().on_headers_complete()
        # uvicorn reads no more while a request waits for its turn, and then nobody would see a hang-up.
        if self._departed is not None and len(self.pipeline) < MOST_QUEUED:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        self._content_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        # At an offer to upgrade the parser says so of the head alone; the body follows (chatproxy.http.upgrades).
        if not self.parser.should_upgrade() and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # it is open, and no request waits
            self._connections.add_idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_watch.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.is_closing():
            return  # what is left must be taken, too, or its socket stays
        self._stall_watch.stop()
        if self.pipeline and (self._running is None or self._running.response_complete):
            self._start_asgi_task(*self.pipeline.pop())

    def _least_speed(self) -> float:
        return 0 if self.is_known else MIN_STRANGER_BYTES_PER_SECOND

    def _stalled(self) -> None:
        self._connections.count_refusal("slow_reader")

    # What `chatproxy.http.connections` says.

    def close_idle(self) -> bool:
        if self.transport.get_write_buffer_size():
            return False
        self.transport.close()
        return True

    def _refuse_connection(self) -> None:
        self._heard_enough = True
        self._answer_and_close(TooManyConnections())

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
        self._connections.count_refusal("bad_request")
        refuse = partial(self._answer_and_close, BadRequest(msg))
        if seconds := stranger_pace.delay(self.client[0] if self.client else ""):
            self._heard_enough = True
            self._linger_timer = self.loop.call_later(seconds, refuse)
        else:
            refuse()

    def _answer_and_close(self, error: ProxyError) -> None:
        body = json.dumps(error.body(None)).encode()
        status = HTTPStatus(error.status_code)
        own = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
        head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n{own}connection: close\r\n"
        self.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head.encode(), INERT_LINES, len(body), body))
        self.transport.close()
