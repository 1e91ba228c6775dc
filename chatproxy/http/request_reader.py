"""Reads requests from the bytes of a socket: uvicorn's class around the HTTP parser, with limits on head and framing.

By itself, uvicorn accepts any number of headers, keeps any number of trailers, and answers bytes that are no HTTP in
its own form. `chatproxy.http.protocol` is the other half of the same class: it opens and closes the connection, and has
the methods for calls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from chatproxy.http.body_parts import put_without_copy
from chatproxy.http.connections import Connections
from chatproxy.http.reading_turns import reading_turns
from chatproxy.http.upgrades import BehindHead, head_without_offer, make_parser
from proxyapi.exceptions import BadRequest, ProxyError
from proxyapi.unauthenticated.answer_pace import stranger_pace
from proxyapi.upstream.passed_headers import INERT

# Request line and headers. One read, of up to 256 KiB, may pass the bound before it is checked.
MAX_HEAD_BYTES = 64 * 1024
# Each header costs as much CPU as 100 bytes of a long one. Apache allows 100 headers.
MAX_HEADERS = 200
# Framing is what a body in chunks has around its content: sizes, extensions, trailers. Beyond this bound, as much
# framing as content is allowed. A client that has sent no valid key gets an eighth of both, because chunks of a few
# bytes cost as much CPU as large ones.
MAX_FRAMING_BYTES = 64 * 1024
STRANGER_FRAMING_SHARE = 8
# What a client without a valid key sends is parsed in pieces of this size, so that a fault or a valid key is found
# before the rest is parsed; `chatproxy.http.reading_turns` decides when.
STRANGER_READ_BYTES = 4 * 1024
# How long a head may take: from the start of the connection, or from the first bytes after an answer.
HEAD_SECONDS = 30.0
# So many requests of one connection may be read while an earlier one is being answered.
MAX_QUEUED_REQUESTS = 16
INVALID_REQUEST = "Invalid HTTP request received."
INERT_LINES = b"".join(b"%b: %b\r\n" % pair for pair in INERT)


class RequestReader(HttpToolsProtocol):
    """The part of a client connection that parses the client's requests, within limits.

    `connections` are the worker's open connections; the other arguments are uvicorn's.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Per-connection state.
        self._connections = Connections() if connections is None else connections
        self.is_known = False  # whether a valid key was sent on this connection
        self._unread = bytearray()  # bytes that have come from a stranger and wait for their turn to be parsed
        self._ignores_input = False  # whether bytes are dropped; they are read only to notice the end of the connection
        self._discardable_bytes = 0  # how many bytes of an unwanted body are still read and dropped
        self._head_timer: asyncio.TimerHandle | None = None
        self._delay_timer: asyncio.TimerHandle | None = None  # delays a refusal, or the close after an answer
        self._running: RequestResponseCycle | None = None  # the request that is being answered, or was last
        self._on_departure: Callable[[], None] | None = None  # called when the running call's client hangs up

        # Per-request state, of the newest request.
        self._is_in_head = False
        self._head_bytes = 0  # bytes of the head that came after the read in which it began
        self._wire_bytes = 0  # bytes after the read in which the head ended
        self._content_bytes = 0  # bytes of the body without framing

    def data_received(self, data: bytes) -> None:
        """Parses bytes from a client; queues them if no valid key was sent; drops them once the connection ends."""
        if self._ignores_input:
            self._discardable_bytes -= len(data)
            if self.transport.is_closing() and self._discardable_bytes < 0:
                self.transport.close()
            return
        # A stranger's bytes, except for a short head, are queued, so that strangers cannot occupy the event loop.
        if self._unread or not (self.is_known or self._is_short_head(data)):
            is_first = not self._unread
            self._unread += data
            self.transport.pause_reading()
            if is_first:
                reading_turns.add(self._read_next_piece)
            return
        self._read(data)

    def _is_short_head(self, data: bytes) -> bool:
        """Returns whether bytes may be parsed at once without a valid key: if they are few, and belong to no body."""
        is_body = self.cycle is not None and self.cycle.more_body
        return len(data) <= STRANGER_READ_BYTES and not is_body

    def _read_next_piece(self) -> bool:
        """Parses the next piece of this connection's queued bytes; returns whether bytes remain in the queue.

        If a valid key was sent on this connection, all queued bytes are one piece.
        """
        if not self._unread:
            return False
        size = len(self._unread) if self.is_known else STRANGER_READ_BYTES
        piece = bytes(self._unread[:size])
        del self._unread[:size]
        self._read(piece)
        if self._ignores_input or self.transport.is_closing():
            self._discardable_bytes -= len(self._unread)
            self._unread.clear()
        if not self._unread and not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
        return bool(self._unread)

    def _read(self, data: bytes) -> None:
        """Parses received bytes as HTTP; answers with status 400 and closes the connection if they break a rule.

        The rules: valid HTTP; no head that is too large; little framing in a body (chunk sizes, extensions, trailers).
        """
        if self._is_in_head:  # began in an earlier read; the read in which a head begins may start with a body
            self._head_bytes += len(data)
        else:
            self._wire_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            has_too_many = self._is_in_head and len(self.headers) > MAX_HEADERS
            words = f"The request has more than {MAX_HEADERS} headers." if has_too_many else INVALID_REQUEST
            self.send_400_response(words)
            return
        if self.transport.is_closing():
            return
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too large.")
        elif self._has_too_much_framing():
            self.send_400_response("The chunks of the request's body are too small, or its trailers too large.")
        # Starts it after other bytes, too: between two requests, empty lines may come, which begin no head.
        elif self._head_timer is None and (self._is_in_head or self.cycle is None or self.cycle.response_complete):
            self._start_head_timer()

    def _has_too_much_framing(self) -> bool:
        """Returns whether a chunked body has too much framing (chunk sizes, extensions, trailers) for its content."""
        framing = self._wire_bytes - self._content_bytes
        if framing <= MAX_FRAMING_BYTES // STRANGER_FRAMING_SHARE or self.cycle is None or not self.cycle.more_body:
            return False
        share = 1 if self.is_known else STRANGER_FRAMING_SHARE
        return framing > (MAX_FRAMING_BYTES + self._content_bytes) // share

    def _parse(self, data: bytes) -> None:
        """Passes received bytes to the HTTP parser, which calls the `on_…` methods; ignores `Upgrade` and CONNECT.

        Raises:
            httptools.HttpParserError: the bytes are not HTTP, or one of the `on_…` methods has raised an error.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            # The parser stops at a head that offers to switch protocols (`Upgrade`); a new one reads what follows.
            except httptools.HttpParserUpgrade as offer:
                rest = memoryview(rest)[offer.args[0] :]  # what follows the head
                head = head_without_offer(self.parser.get_http_version(), self.headers)
                self.parser = make_parser(BehindHead(self))
                self.parser.feed_data(head)
            else:
                return

    # The HTTP parser calls the following methods.

    def on_message_begin(self) -> None:
        """Starts to count the bytes of a new request's head; the parser calls this at the start of each request."""
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header to the request; drops trailers, since the call has its headers already (RFC 9110, 6.5.1).

        Raises:
            ValueError: the request has more than `MAX_HEADERS`.
        """
        if self._is_in_head:
            self.headers.append((name := name.lower(), value))
            self.expect_100_continue |= name == b"expect" and value.lower() == b"100-continue"
            if len(self.headers) > MAX_HEADERS:
                raise ValueError  # the parser raises HttpParserError instead

    def on_headers_complete(self) -> None:
        """Starts or queues the call of a request whose head is complete; puts this connection into the call's scope."""
        self._is_in_head = False
        self._wire_bytes = self._content_bytes = 0
        self._cancel_head_timer()
        self.scope["extensions"] = {"chatproxy": {"connection": self}}
        super().on_headers_complete()
        # uvicorn stops reading while a request waits for its turn, and then nobody would see a hang-up.
        if self._on_departure is not None and len(self.pipeline) < MAX_QUEUED_REQUESTS:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Counts the bytes of a part of a request's body, and passes the part on to the call."""
        self._content_bytes += len(body)
        if not put_without_copy(self.cycle, body):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Marks the running request's body as complete, and wakes its call; does nothing if the request is answered.

        Does nothing after a head with `Upgrade` either: the parser then calls this although the body is still to come.
        """
        # There the parser stops, and the body is still to come.
        if not self.parser.should_upgrade() and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # A connection on which no request comes is closed.

    def _start_head_timer(self) -> None:
        """Starts a timer that closes the connection if the next request's head takes longer than `HEAD_SECONDS`."""
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_timed_out)

    def _head_timed_out(self) -> None:
        """Closes the connection, since the next request's head is late; while a call runs, restarts the timer."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._start_head_timer()

    def _cancel_head_timer(self) -> None:
        """Stops the timer that limits the time until the head of the next request is complete."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # Bytes that are no valid request end the connection.

    def send_400_response(self, msg: str) -> None:
        """Ends the connection after bytes that are no valid request; sends an error with status 400 if possible.

        Complete requests before the bytes are answered instead; an answer that has begun is cut off. uvicorn calls
        this.
        """
        # The client must not take the 400 for the answer to an earlier request. By the place of the fault:
        #     behind complete requests that are not answered yet       they are answered, then the connection is closed
        #     in the body of a request that waits for its turn         only those before it are answered, then closed
        #     in the body of a request whose answer has begun          closed at once, in the middle of the answer
        #     in the body of a request that is not answered yet        answered with 400, and closed
        #     in a head, with nothing unanswered before it             answered with 400, and closed
        if (last := self._take_last_whole_request()) is not None:
            last.keep_alive = False
            self._ignores_input = True
            self._is_in_head = False
            self._cancel_head_timer()
        elif self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse_request(BadRequest(msg))

    def _take_last_whole_request(self) -> RequestResponseCycle | None:
        """Returns the newest request that has arrived whole and is not answered yet; None if there is no such request.

        If the newest request is incomplete and waits for its turn, removes it from the queue first.
        """
        running = self._running
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()  # the newest request; those in front of it are complete
        unanswered = [cycle for cycle, _ in self.pipeline]
        if running is not None and not running.response_complete and not running.more_body:
            unanswered.append(running)
        return unanswered[0] if unanswered else None

    def _refuse_request(self, error: ProxyError) -> None:
        """Answers bytes that are no valid request with an error, and closes the connection.

        The answer has no request id. The refusal is counted; the answer is delayed if the client causes many refusals.
        """
        self._connections.count_refusal("bad_request")
        refuse = partial(self._answer_and_close, error)
        if seconds := stranger_pace.delay(self.client[0] if self.client else ""):
            self._ignores_input = True
            self._delay_timer = self.loop.call_later(seconds, refuse)
        else:
            refuse()

    def _answer_and_close(self, error: ProxyError) -> None:
        """Sends an error as JSON directly to the client, bypassing the ASGI application, and closes the connection."""
        body = json.dumps(error.body(None)).encode()
        status = HTTPStatus(error.status_code)
        own = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
        head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n{own}connection: close\r\n"
        self.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head.encode(), INERT_LINES, len(body), body))
        self.transport.close()
