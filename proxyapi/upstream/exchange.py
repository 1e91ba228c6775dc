"""One exchange with upstream on one connection: a request goes out, an answer comes in.

httptools (llhttp, Node's parser) reads the answer. Backpressure: reading from upstream pauses while more than
`MAX_BUFFERED_BYTES` wait for the caller, counted after decoding if the answer is encoded. An encoded answer is decoded
in steps, each in its own turn of the event loop. An exception that the request's body raises while it is sent reaches
the caller of `chunk` unchanged. An exchange that is closed before its end closes its connection, so upstream stops.

An exchange has one timer: at its deadline or, if silence is limited, at the moment when silence would be too long.
Arriving bytes do not move the timer: when it fires, it compares the clock with the time of the last byte.

The states, and what leads from one to the next:

    HEAD ──head──> BODY ──last byte──> DECODING ──last step──> COMPLETE
      └──────────────┴───── a fault ──────┴──> FAILED             any ──close()──> CLOSED

Over 300 lines, since the state of an exchange is changed by its caller, its connection and its parser, which have to be
read together.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

import httptools
from multidict import CIMultiDict

from proxyapi.bodies.decoding import ENCODINGS, Decoder
from proxyapi.upstream.faults import Broken, InvalidStatus, Late, Silent
from proxyapi.upstream.passed_headers import Headers

Body = bytes | AsyncIterator[bytes] | None
# Takes a piece of an answer's body, and returns the rest of it that was not taken.
Sink = Callable[[bytes], bytes]

MAX_BUFFERED_BYTES = 256 * 1024
MAX_HEAD_BYTES = 128 * 1024
BODILESS = {204, 304}


class State(IntEnum):
    """The life of an exchange; the drawing is in the module's docstring. From `FAILED` on nothing more arrives."""

    HEAD = 0
    BODY = 1
    DECODING = 2  # all bytes have arrived; some are still to be decoded
    FAILED = 3
    COMPLETE = 4
    CLOSED = 5


class ExchangeConnection(Protocol):
    """The methods of a connection that an exchange calls."""

    async def write(self, data: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...
    def ended(self, *, reusable: bool) -> None: ...


class SilenceLimits(NamedTuple):
    """How long upstream may send nothing, in seconds: before the head of its answer, and within the answer."""

    first_byte: float | None = None
    idle: float | None = None


UNLIMITED = SilenceLimits()


class Exchange:
    """A request to upstream and its answer, in progress. `status` is 0 until the head of the answer has arrived."""

    def __init__(self, connection: ExchangeConnection, deadline: float, silence: SilenceLimits = UNLIMITED) -> None:
        self.status = 0
        self.headers: Headers = CIMultiDict()
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._silence = None if silence == UNLIMITED else silence
        self._heard_at = 0.0 if self._silence is None else self._loop.time()
        self._parser = httptools.HttpResponseParser(self)
        self._state = State.HEAD
        self._fault: Exception | None = None  # while FAILED
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._buffered = 0  # bytes in `_pieces`
        self._sink: Sink | None = None  # while `chunk` waits
        self._leftover = b""  # the rest that the sink returned last
        self._paused = False
        self._decoder: Decoder | None = None
        self._next_step: asyncio.Handle | None = None  # of decoding
        self._keep_alive = False
        self._waiter: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent = True
        self._timer = self._start_timer()

    def send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Starts to send a request whose body comes in pieces.

        The head goes with the first piece, so that nothing has been sent if the body raises before it.
        """
        self._sent = False
        self._sending = self._loop.create_task(self._send(head, body))

    async def begin(self) -> None:
        """Waits for the head of the answer.

        Raises:
            TransportFault: the exchange failed before it came.
        """
        while not self.status:
            await self._wait()

    async def chunk(self, sink: Sink = bytes) -> bytes:
        """Returns the part of the body that has arrived, decoded if it was encoded; empty at the end of the body.

        `sink` is called at the moment a piece arrives, outside of the calling task. Only the rest that it returns is
        returned here. An exception that it raises ends the exchange, and is raised here.

        Raises:
            TransportFault: the body did not arrive whole.
        """
        rest = b""
        while not rest:
            if self._pieces:
                rest = sink(self._pop_buffered())
            elif self._state >= State.COMPLETE:
                return b""
            else:
                self._sink = sink
                await self._wait()
                self._sink = None
                rest, self._leftover = self._leftover, b""
        return rest

    def close(self) -> None:
        """Gives the connection back for another exchange, or closes it if this one has not ended well."""
        if self._state is State.CLOSED:
            return
        self._timer.cancel()
        if self._next_step is not None:
            self._next_step.cancel()
        if self._sending is not None:
            self._sending.cancel()
        whole = self._state is State.COMPLETE and self._sent and not self._paused
        self._connection.ended(reusable=whole and self._keep_alive)
        # Reference cycles end here, since the collector runs seldom: the frames of a fault hold the request's body,
        # and the sink holds the whole call.
        self._state, self._fault, self._sink = State.CLOSED, None, None
        del self._parser

    async def _send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Sends the request, and ends the exchange with any exception that the body raises."""
        try:
            async for piece in body:
                await self._connection.write(head + piece)
                head = b""
            if head:
                await self._connection.write(head)
            self._sent = True
            self._restart_silence()
        except Exception as fault:  # the border: any exception of the body ends the exchange
            self._fail(fault)

    async def _wait(self) -> None:
        """Returns when something has arrived or changed. Raises the fault of an exchange that has failed."""
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _start_timer(self) -> asyncio.TimerHandle:
        """Starts the timer for the deadline or, if that is sooner, for the limit of silence."""
        if self._silence is None:
            return self._loop.call_at(self._deadline, self._fail, Late())
        limit = self._silence.idle if self.status else self._silence.first_byte
        moment = self._deadline if limit is None else min(self._deadline, self._heard_at + limit)
        return self._loop.call_at(moment, self._check_clock)

    def _check_clock(self) -> None:
        """Ends the exchange at its deadline, or after too long a silence; else starts the timer again."""
        assert self._silence is not None  # noqa: S101  (else there is a deadline only)
        now = self._loop.time()
        if not self._sent or self._paused:  # upstream waits for us, or for the caller
            self._heard_at = now
        setting, limit = (
            ("IDLE_TIMEOUT", self._silence.idle) if self.status else ("FIRST_BYTE_TIMEOUT", self._silence.first_byte)
        )
        if now >= self._deadline:
            self._fail(Late())
        elif limit is not None and now - self._heard_at >= limit:
            self._fail(Silent(setting, limit))
        else:
            self._timer = self._start_timer()

    def _restart_silence(self) -> None:
        """Counts upstream's silence from now on."""
        if self._silence is not None:
            self._heard_at = self._loop.time()

    def _pop_buffered(self) -> bytes:
        """Returns all that is buffered and empties the buffer, so that decoding or reading goes on."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._buffered = 0
        if self._decoder is not None and self._decoder.has_more:
            self._schedule_step()
        else:
            self._resume()
        return data

    def _buffer(self, piece: bytes) -> None:
        """Adds a piece of the body to the buffer."""
        if piece:
            self._pieces.append(piece)
            self._buffered += len(piece)

    def _pause(self) -> None:
        """Stops reading from upstream."""
        if not self._paused:
            self._paused = True
            self._connection.pause()

    def _resume(self) -> None:
        """Reads from upstream again."""
        if self._paused:
            self._paused = False
            self._restart_silence()
            self._connection.resume()

    def _decode(self, decoder: Decoder) -> None:
        """Decodes one step. Schedules the next one if there is room for its output. Raises `zlib.error`."""
        self._buffer(decoder.step())
        if not decoder.has_more:
            return
        self._pause()
        if self._buffered <= MAX_BUFFERED_BYTES:
            self._schedule_step()

    def _schedule_step(self) -> None:
        """Schedules a step of decoding for the next turn of the event loop."""
        if self._next_step is None:
            self._next_step = self._loop.call_soon(self._decode_step)

    def _decode_step(self) -> None:
        """Decompresses the next step of an encoded answer; schedules the one after it if more is left."""
        self._next_step = None
        decoder = self._decoder
        if decoder is None or self._state >= State.FAILED:
            return
        try:
            self._decode(decoder)
        except zlib.error as fault:
            self._fail(Broken(str(fault)))
            return
        if not decoder.has_more:
            if self._state is State.DECODING:
                self._end()
            if self._buffered <= MAX_BUFFERED_BYTES:
                self._resume()
        self._wake()

    def _end(self) -> None:
        """Completes the exchange once the answer has arrived and been decoded; fails if its encoding is not whole."""
        if self._decoder is not None and not self._decoder.is_whole:
            self._fail(Broken("its encoded answer is not whole"))
        if self._state < State.FAILED:
            self._state = State.COMPLETE

    def _wake(self) -> None:
        """Gives the buffered bytes to a sink that waits. Wakes its task unless the sink took all and more will come."""
        if self._waiter is None or self._waiter.done():
            return
        if self._sink is not None and self._pieces:
            try:
                self._leftover = self._sink(self._pop_buffered())
            except Exception as fault:  # the border: an exception of the sink is raised by the `chunk` that waits
                self._state, self._fault = State.FAILED, fault
                self._connection.close()
            if not self._leftover and self._state < State.FAILED:
                return
        self._waiter.set_result(None)

    def _fail(self, fault: Exception) -> None:
        """Ends the exchange: nothing more is read from upstream; what is buffered is still returned by `chunk`."""
        if self._state < State.FAILED:
            self._state, self._fault = State.FAILED, fault
            self._connection.close()
            self._wake()

    # Called by the connection.

    def data_received(self, data: bytes) -> None:
        """Parses bytes of the answer."""
        if self._silence is not None:
            self._heard_at = self._loop.time()
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            raised = fault.__context__  # by a callback
            self._fail(raised if isinstance(raised, Broken) else Broken(str(raised or fault)))
            self._connection.close()  # even if the answer was whole: bytes that nobody asked for followed it
        if not self.status and self._head_size > MAX_HEAD_BYTES:
            self._fail(Broken("the head of its answer is too large"))
        self._wake()

    def eof_received(self) -> None:
        """Completes an answer whose end is the end of the connection."""
        if self.status and self._ends_with_connection():
            self.on_message_complete()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails, unless all bytes have arrived and only decoding is left."""
        if self._state < State.DECODING:
            self._fail(Broken(str(exc or "it was closed")))

    def _ends_with_connection(self) -> bool:
        """Returns whether the end of the connection is the end of the answer (RFC 9112, 6.3)."""
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not has_length and self.status not in BODILESS

    # Called by the parser. An exception stops it, and it raises an error of its own with ours as the context.

    def on_message_begin(self) -> None:
        """Fails at a second answer on one request."""
        if self.status:
            raise Broken("a second answer follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header of the head. Trailers are left out: nobody has asked for them (RFC 9110, 6.5.1)."""
        if not self.status:
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Ends the head; that of an interim answer (status 1xx) is dropped, since another one follows."""
        status = self._parser.get_status_code()
        if not 100 <= status < 600:
            raise InvalidStatus(status)
        if status < 200:
            self.headers.clear()
            return
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ENCODINGS:
            self._decoder = Decoder(encoding)
        elif encoding not in {"", "identity"}:
            raise Broken(f"its answer is encoded as {encoding[:50]}")
        self.status = status
        self._state = State.BODY
        if self._silence is not None:
            self._timer.cancel()
            self._timer = self._start_timer()
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Buffers a piece of the body, decoded; pauses reading above `MAX_BUFFERED_BYTES`."""
        decoder = self._decoder
        if decoder is None:
            self._buffer(data)
        else:
            decoder.feed(data)
            if self._next_step is None and self._buffered <= MAX_BUFFERED_BYTES:
                self._decode(decoder)
        if self._buffered > MAX_BUFFERED_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        """Ends the answer, or leaves its end to the last step of decoding."""
        if self._state is not State.BODY:  # the end of an interim answer, or of one that has failed
            return
        self._state = State.DECODING
        if self._decoder is None or not self._decoder.has_more:
            self._end()
