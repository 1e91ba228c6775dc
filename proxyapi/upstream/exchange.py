"""Owns one exchange with upstream on one connection: a request out, an answer in.

httptools (llhttp, Node's parser) reads the answer. Upstream waits for who does not take it: reading pauses above
`MOST_HELD` bytes, decoded ones if the answer is encoded. It is decoded a step at a time, each in a turn of its own of
the event loop. What a body raises while it is sent is raised as it is. One that is closed before its end closes its
connection, so upstream stops.

An exchange has one timer, at its deadline or, if silence is limited, when silence would be too long. Bytes that arrive
do not move it: when it fires, it looks how long the silence has been.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, NamedTuple

import httptools
from multidict import CIMultiDict

from proxyapi.bodies.decoding import ENCODINGS, Decoder
from proxyapi.upstream.faults import Broken, InvalidStatus, Late, Silent
from proxyapi.upstream.passed_headers import Headers

if TYPE_CHECKING:
    from proxyapi.upstream.connection import Connection

Body = bytes | AsyncIterator[bytes] | None
Take = Callable[[bytes], bytes]

MOST_HELD = 256 * 1024
LONGEST_HEAD = 128 * 1024
BODILESS = {204, 304}


class Silence(NamedTuple):
    """How long upstream may say nothing, in seconds: before the head of its answer, and in the middle of it."""

    first_byte: float | None = None
    idle: float | None = None


UNLIMITED = Silence()


class Exchange:
    """`status` and `headers` are upstream's; `chunk` has its body."""

    def __init__(self, connection: Connection, deadline: float, silence: Silence = UNLIMITED) -> None:
        self.status = 0
        self.headers: Headers = CIMultiDict()
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._silence = None if silence == UNLIMITED else silence
        self._heard_at = 0.0 if self._silence is None else self._loop.time()
        self._parser = httptools.HttpResponseParser(self)
        self._has_head = False
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._held = 0  # bytes
        self._taker: Take | None = None  # while somebody waits
        self._untaken = b""  # what it returned last
        self._paused = False
        self._decoder: Decoder | None = None
        self._next_step: asyncio.Handle | None = None  # of decoding
        self._has_arrived = False  # all of the answer, decoded or not
        self._complete = False
        self._keep_alive = False
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent = True
        self._closed = False
        self._timer = self._start_timer()

    def send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Begins to send a body that comes in pieces. The head goes with the first: if none comes, nothing was sent."""
        self._sent = False
        self._sending = self._loop.create_task(self._send(head, body))

    async def begin(self) -> None:
        """Waits for the answer's head. Raises what ends the exchange first."""
        while not self._has_head:
            await self._more()

    async def chunk(self, take: Take = bytes) -> bytes:
        """What has arrived of the body, decoded if it was encoded; empty at its end.

        `take` is called at the moment a piece arrives, outside of this task, and returns what it did not take: only
        that is returned here. What it raises ends the exchange.

        Raises:
            TransportFault: it did not arrive whole.
        """
        left = b""
        while not left:
            if self._pieces:
                left = take(self._pop_held())
            elif self._complete:
                return b""
            else:
                self._taker = take
                await self._more()
                self._taker = None
                left, self._untaken = self._untaken, b""
        return left

    def close(self) -> None:
        """Gives the connection back, or closes it if the exchange has not ended."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        if self._next_step is not None:
            self._next_step.cancel()
        if self._sending is not None:
            self._sending.cancel()
        whole = self._complete and self._sent and not self._paused
        self._connection.ended(reusable=whole and self._keep_alive)
        # Circles end here, since the collector comes seldom: a fault has frames with the request's body in them, and
        # `_taker` has the whole call.
        self._complete, self._fault, self._taker = True, None, None
        del self._parser

    async def _send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        try:
            async for piece in body:
                await self._connection.write(head + piece)
                head = b""
            if head:
                await self._connection.write(head)
            self._sent = True
            self._heard()
        except Exception as fault:  # the border: whatever it is, it ends the exchange
            self._fail(fault)

    async def _more(self) -> None:
        """Returns when something has happened."""
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _start_timer(self) -> asyncio.TimerHandle:
        if self._silence is None:
            return self._loop.call_at(self._deadline, self._fail, Late())
        limit = self._silence.idle if self._has_head else self._silence.first_byte
        moment = self._deadline if limit is None else min(self._deadline, self._heard_at + limit)
        return self._loop.call_at(moment, self._look_at_clock)

    def _look_at_clock(self) -> None:
        """Ends the exchange if its time is over, or upstream has been silent for too long; else looks again later."""
        assert self._silence is not None  # noqa: S101  (else there is a deadline only)
        now = self._loop.time()
        if not self._sent or self._paused:  # it is ours, or the caller's, to go on
            self._heard_at = now
        setting, limit = (
            ("IDLE_TIMEOUT", self._silence.idle) if self._has_head else ("FIRST_BYTE_TIMEOUT", self._silence.first_byte)
        )
        if now >= self._deadline:
            self._fail(Late())
        elif limit is not None and now - self._heard_at >= limit:
            self._fail(Silent(setting, limit))
        else:
            self._timer = self._start_timer()

    def _heard(self) -> None:
        """From now on silence counts."""
        if self._silence is not None:
            self._heard_at = self._loop.time()

    def _pop_held(self) -> bytes:
        """What is held, and no longer is."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        if self._decoder is not None and self._decoder.has_more:
            self._schedule_step()
        else:
            self._resume()
        return data

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._held += len(piece)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._connection.pause()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._heard()
            self._connection.resume()

    def _decode(self, decoder: Decoder) -> None:
        """Takes one step; the next one is taken when there is room for what it makes. Raises `zlib.error`."""
        self._hold(decoder.step())
        if not decoder.has_more:
            return
        self._pause()
        if self._held <= MOST_HELD:
            self._schedule_step()

    def _schedule_step(self) -> None:
        if self._next_step is None:
            self._next_step = self._loop.call_soon(self._take_step)

    def _take_step(self) -> None:
        self._next_step = None
        decoder = self._decoder
        if decoder is None or self._fault is not None:
            return
        try:
            self._decode(decoder)
        except zlib.error as fault:
            self._fail(Broken(str(fault)))
            return
        if not decoder.has_more:
            if self._has_arrived:
                self._end()
            if self._held <= MOST_HELD:
                self._resume()
        self._wake()

    def _end(self) -> None:
        """All of it has arrived, and been decoded."""
        if self._decoder is not None and not self._decoder.is_whole:
            self._fail(Broken("its encoded answer is not whole"))
        self._complete = self._fault is None

    def _wake(self) -> None:
        """Tells who waits that something has happened, unless that was only bytes and it took them at once."""
        if self._waiter is None or self._waiter.done():
            return
        if self._taker is not None and self._pieces:
            try:
                self._untaken = self._taker(self._pop_held())
            except Exception as fault:  # the border: it is the reader's, and raised where that waits
                self._complete, self._fault = False, fault
                self._connection.close()
            if not self._untaken and not self._complete and self._fault is None:
                return
        self._waiter.set_result(None)

    def _fail(self, fault: Exception) -> None:
        """Nothing more is taken from upstream; what has come is still given."""
        if self._fault is None and not self._complete:
            self._fault = fault
            self._connection.close()
            self._wake()

    # What the connection says.

    def data_received(self, data: bytes) -> None:
        if self._silence is not None:
            self._heard_at = self._loop.time()
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            raised = fault.__context__  # by a callback
            self._fail(raised if isinstance(raised, Broken) else Broken(str(raised or fault)))
            self._connection.close()  # even if the answer was whole: more came than was asked for
        if not self._has_head and self._head_size > LONGEST_HEAD:
            self._fail(Broken("the head of its answer is too large"))
        self._wake()

    def eof_received(self) -> None:
        if self._has_head and self._ends_with_connection():
            self.on_message_complete()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._has_arrived:  # else what is left is ours to decode
            self._fail(Broken(str(exc or "it was closed")))

    def _ends_with_connection(self) -> bool:
        """RFC 9112, 6.3."""
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not has_length and self.status not in BODILESS

    # What the parser says. It stops at what is raised here, and raises an error of its own.

    def on_message_begin(self) -> None:
        if self._has_head:
            raise Broken("a second answer follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # else it is of a trailer, which nobody has asked for (RFC 9110, 6.5.1)
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not 100 <= status < 600:
            raise InvalidStatus(status)
        if status < 200:  # an interim answer: another follows
            self.headers.clear()
            return
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ENCODINGS:
            self._decoder = Decoder(encoding)
        elif encoding not in {"", "identity"}:
            raise Broken(f"its answer is encoded as {encoding[:50]}")
        self.status = status
        self._has_head = True
        if self._silence is not None:
            self._timer.cancel()
            self._timer = self._start_timer()
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            self._hold(data)
        else:
            decoder.feed(data)
            if self._next_step is None and self._held <= MOST_HELD:
                self._decode(decoder)
        if self._held > MOST_HELD:
            self._pause()

    def on_message_complete(self) -> None:
        if not self._has_head:  # of an interim answer
            return
        self._has_arrived = True
        if self._decoder is None or not self._decoder.has_more:
            self._end()
