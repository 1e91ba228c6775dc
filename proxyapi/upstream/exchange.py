"""One exchange with upstream on one connection: a request goes out, an answer comes in.

httptools (llhttp, Node's parser) reads the answer. Backpressure: reading from upstream pauses while more than
`MAX_BUFFERED_BYTES` wait for the caller, counted after decoding if the answer is encoded. An encoded answer is decoded
in steps, each in its own turn of the event loop. If the request's body raises an exception while it is sent, `chunk`
raises it unchanged. Closing an exchange before its end closes its connection, so that upstream stops.

An exchange has one timer. It fires at the deadline or, if upstream's silence is limited, when the silence would be too
long. Arriving bytes do not move the timer: when it fires, the clock is compared with the time of the last byte.

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

from proxyapi.bodies.decoding import ENCODINGS, Decoder, stated_encoding
from proxyapi.upstream.faults import Broken, InvalidStatus, Late, Silent, damaged, lost, unreadable
from proxyapi.upstream.passed_headers import Headers

Body = bytes | AsyncIterator[bytes] | None
# Takes a piece of an answer's body, and returns the rest of it that was not taken.
Sink = Callable[[bytes], bytes]

MAX_BUFFERED_BYTES = 256 * 1024
MAX_HEAD_BYTES = 128 * 1024
BODILESS = {204, 304}


class State(IntEnum):
    """The states of an exchange, which is one request to upstream and its answer.

    In `FAILED` and all later states, no more bytes of the answer arrive. The module's docstring shows which state
    follows which.
    """

    HEAD = 0
    BODY = 1
    DECODING = 2  # all bytes have arrived; some are still to be decoded
    FAILED = 3
    COMPLETE = 4
    CLOSED = 5


class ExchangeConnection(Protocol):
    """Interface of a connection to upstream, as an exchange (one request and its answer) uses it."""

    async def write(self, data: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...
    def ended(self, *, reusable: bool) -> None: ...


class SilenceLimits(NamedTuple):
    """The longest times in seconds for which upstream may send nothing; None means no limit.

    `first_byte` is the limit before the head of upstream's answer has arrived, and `idle` the limit after that.
    """

    first_byte: float | None = None
    idle: float | None = None


UNLIMITED = SilenceLimits()


class Exchange:
    """One request to upstream and its answer, in progress on one connection.

    `status` is 0 until the head of the answer has arrived.
    """

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
        self._fault: Exception | None = None  # set while the state is FAILED
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._buffered = 0  # bytes in `_pieces`
        self._sink: Sink | None = None  # while `chunk` waits
        self._leftover = b""  # the rest that the sink returned last
        self._paused = False
        self._decoder: Decoder | None = None
        self._next_step: asyncio.Handle | None = None  # the scheduled step of decoding
        self._keep_alive = False
        self._waiter: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent = True
        self._timer = self._start_timer()

    def send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Starts a task that sends upstream a request whose body comes in pieces.

        Nothing is sent if the body raises an exception before its first piece.
        """
        self._sent = False
        self._sending = self._loop.create_task(self._send(head, body))

    async def begin(self) -> None:
        """Waits until the head of upstream's answer has arrived.

        Raises:
            TransportFault: the exchange failed before that. An exception of the request's body is raised unchanged.
        """
        while not self.status:
            await self._wait()

    async def chunk(self, sink: Sink = bytes) -> bytes:
        """Passes the decoded body to the function `sink` until it does not take all of a piece; returns what it left.

        `sink` gets a piece, and returns the bytes of it that it could not take. Without a `sink`, the next piece is
        returned. At the end of the body, the result is empty.

        Raises:
            TransportFault: the body did not arrive whole.
            Exception: an exception of `sink`, which ends the exchange, or of the request's body.
        """
        rest = b""
        while not rest:
            if self._pieces:
                rest = sink(self._pop_buffered())
            elif self._state >= State.COMPLETE:
                return b""
            else:
                # from now on called by the event loop, at the moment when bytes arrive
                self._sink = sink
                await self._wait()
                self._sink = None
                rest, self._leftover = self._leftover, b""
        return rest

    def close(self) -> None:
        """Ends the exchange, and frees its connection for another one.

        The connection is closed instead if the request or the answer is incomplete, or if upstream does not keep it
        open.
        """
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
        """Sends upstream the head of a request and the pieces of its body; an error of the body fails the exchange."""
        try:
            async for piece in body:
                # The head goes with the first piece.
                await self._connection.write(head + piece)
                head = b""
            if head:
                await self._connection.write(head)
            self._sent = True
            self._restart_silence()
        except Exception as fault:  # the border: any exception of the body ends the exchange
            self._fail(fault)

    async def _wait(self) -> None:
        """Waits until bytes of the answer arrive or the exchange's state changes.

        If the exchange has failed already, raises the fault at once.
        """
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _start_timer(self) -> asyncio.TimerHandle:
        """Starts the timer for the call's deadline and for upstream's longest allowed silence; returns the timer."""
        if self._silence is None:
            return self._loop.call_at(self._deadline, self._fail, Late())
        limit = self._silence.idle if self.status else self._silence.first_byte
        moment = self._deadline if limit is None else min(self._deadline, self._heard_at + limit)
        return self._loop.call_at(moment, self._check_clock)

    def _check_clock(self) -> None:
        """Fails the exchange if its deadline has passed or upstream was silent too long; else restarts the timer."""
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
        """Sets the duration of upstream's silence back to zero.

        To be called when the gateway starts to read again, or has sent the whole request: upstream's silence before
        that was not upstream's fault.
        """
        if self._silence is not None:
            self._heard_at = self._loop.time()

    def _pop_buffered(self) -> bytes:
        """Empties the buffer of the answer's body, and returns the bytes that were in it.

        If decoding or reading was stopped because the buffer was full, it continues.
        """
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._buffered = 0
        # goes on with what the full buffer had stopped
        if self._decoder is not None and self._decoder.has_more:
            self._schedule_step()
        elif self._paused:
            self._resume()
        return data

    def _buffer(self, piece: bytes) -> None:
        """Adds a piece of the answer's body to the buffer, from which `chunk` takes it."""
        if piece:
            self._pieces.append(piece)
            self._buffered += len(piece)

    def _pause(self) -> None:
        """Stops reading from upstream, because enough bytes wait to be decoded or passed on."""
        if not self._paused:
            self._paused = True
            self._connection.pause()

    def _resume(self) -> None:
        """Reads from upstream again after `_pause`; the pause does not count as upstream's silence."""
        if self._paused:
            self._paused = False
            self._restart_silence()
            self._connection.resume()

    def _decode(self, decoder: Decoder) -> None:
        """Decodes some bytes of an encoded answer into the buffer.

        If more bytes wait to be decoded, stops reading from upstream, and schedules the next step of decoding unless
        the buffer is full. Raises `zlib.error` if the bytes cannot be decoded.
        """
        self._buffer(decoder.step())
        if not decoder.has_more:
            return
        self._pause()
        if self._buffered <= MAX_BUFFERED_BYTES:
            self._schedule_step()

    def _schedule_step(self) -> None:
        """Schedules one step of undoing the answer's Content-Encoding, such as gzip, for the event loop's next turn.

        Does nothing if a step is scheduled already.
        """
        if self._next_step is None:
            self._next_step = self._loop.call_soon(self._decode_step)

    def _decode_step(self) -> None:
        """Decodes a limited part of an answer's compressed bytes, and wakes the task that waits for the result.

        Once nothing is left to decode, ends the exchange if the whole answer has arrived. Fails the exchange if the
        bytes cannot be decoded.
        """
        self._next_step = None
        decoder = self._decoder
        if decoder is None or self._state >= State.FAILED:
            return
        try:
            self._decode(decoder)
        except zlib.error as fault:
            self._fail(damaged(fault))
            return
        if not decoder.has_more:
            if self._state is State.DECODING:
                self._end()
            if self._buffered <= MAX_BUFFERED_BYTES:
                self._resume()
        self._wake()

    def _end(self) -> None:
        """Marks the exchange as complete after the answer's last byte.

        If the answer is encoded and the encoded body is incomplete, marks the exchange as failed instead.
        """
        if self._decoder is not None and not self._decoder.is_whole:
            self._fail(Broken("its encoded answer is not whole"))
        if self._state < State.FAILED:
            self._state = State.COMPLETE

    def _wake(self) -> None:
        """Wakes the task, if any, that waits in `chunk`; first passes the buffered bytes to the task's function `sink`.

        The task is not woken if `sink` took all bytes and more may come. If `sink` raises an exception, the exchange
        fails, and the task is woken.
        """
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
        """Marks the exchange as failed with `fault`, and closes its connection. Does nothing if the exchange has ended.

        `chunk` still returns the bytes in the buffer before it raises the fault.
        """
        if self._state < State.FAILED:
            self._state, self._fault = State.FAILED, fault
            self._connection.close()
            self._wake()

    # Called by the connection.

    def data_received(self, data: bytes) -> None:
        """Parses bytes of upstream's answer that have just arrived, and wakes the task that waits for them.

        Fails the exchange if the bytes break HTTP's rules, or if the answer's head is over `MAX_HEAD_BYTES`.
        """
        if self._silence is not None:
            self._heard_at = self._loop.time()
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._fail(unreadable(b"" if self.status else data, fault))
            self._connection.close()  # even if the answer was whole: bytes that nobody asked for followed it
        if not self.status and self._head_size > MAX_HEAD_BYTES:
            self._fail(Broken("the head of its answer is too large"))
        self._wake()

    def eof_received(self) -> None:
        """Ends the answer if it has no Content-Length and is not chunked, since upstream has closed its side.

        For any other answer, `connection_lost` decides whether the answer is complete.
        """
        # Any other answer is left to `connection_lost`, which checks whether all of it has arrived.
        if self.status and self.ends_with_connection:
            self.on_message_complete()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Marks the exchange as failed because its connection is lost, unless the whole answer has arrived."""
        if self._state < State.DECODING:
            self._fail(lost(exc))

    @property
    def ends_with_connection(self) -> bool:
        """True if the answer states no length, and so ends when its connection is closed (RFC 9112, 6.3)."""
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not has_length and self.status not in BODILESS

    # Called by the parser. An exception stops the parser, which raises an error with that exception as its context.

    def on_message_begin(self) -> None:
        """Raises `Broken` if a second answer begins in this exchange."""
        if self.status:
            raise Broken("a second answer follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Stores one header of the answer in `headers`. Headers after the body (trailers) are ignored."""
        # No request has asked for trailers (RFC 9110, 6.5.1).
        if not self.status:
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Stores the answer's status, and prepares to decode the body, once all headers have arrived.

        An interim answer (1xx) is ignored, because the real answer follows.

        Raises:
            InvalidStatus: HTTP does not have this status.
            Broken: the answer's encoding is unknown.
        """
        status = self._parser.get_status_code()
        if not 100 <= status < 600:
            raise InvalidStatus(status)
        if status < 200:
            self.headers.clear()
            return
        encoding = stated_encoding(self.headers.getall("content-encoding", ()))
        if encoding in ENCODINGS:
            self._decoder = Decoder(encoding)
        elif encoding:
            raise Broken(f"its answer is encoded as {encoding[:50]}", "its answer has an encoding that is not known")
        self.status = status
        self._state = State.BODY
        if self._silence is not None:
            self._timer.cancel()
            self._timer = self._start_timer()
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Adds a piece of the answer's body to the buffer, decoded if the answer is encoded.

        Pauses reading from upstream when the buffer has more than `MAX_BUFFERED_BYTES`.
        """
        decoder = self._decoder
        if decoder is None:
            self._pieces.append(data)
            self._buffered += len(data)
        else:
            decoder.feed(data)
            if self._next_step is None and self._buffered <= MAX_BUFFERED_BYTES:
                self._decode(decoder)
        if self._buffered > MAX_BUFFERED_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        """Records that the answer's last byte has arrived; ends the exchange if no bytes are left to be decoded.

        Does nothing at the end of an interim answer (1xx), or if the exchange has failed.
        """
        if self._state is not State.BODY:  # this is the end of an interim answer, or the exchange has failed
            return
        self._state = State.DECODING
        if self._decoder is None or not self._decoder.has_more:
            self._end()
