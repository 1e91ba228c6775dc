"""Owns one exchange with upstream on one connection: a request out, an answer in.

    TransportFault
    ├── NotConnected      no connection: upstream never heard of the call
    │   └── ConnectTimeout    in time
    ├── Late              connected, and its time was over before its end
    └── Broken            connected, and then cut, or not HTTP

httptools (llhttp, Node's parser) reads the answer. Upstream waits for who does not take it: reading pauses above
`MOST_HELD` bytes. What a body raises while it is sent is raised as it is. One that is closed before its end closes its
connection, so upstream stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httptools
from multidict import CIMultiDict

from proxyapi.decoding import ENCODINGS, Decoder
from proxyapi.headers import Headers

if TYPE_CHECKING:
    from proxyapi.upstream_connection import Connection

Body = bytes | AsyncIterator[bytes] | None
Take = Callable[[bytes], bytes]

MOST_HELD = 256 * 1024
LONGEST_HEAD = 128 * 1024
BODILESS = {204, 304}


class TransportFault(Exception):
    """The exchange with upstream failed."""


class NotConnected(TransportFault):
    pass


class ConnectTimeout(NotConnected):
    pass


class Late(TransportFault):
    pass


class Broken(TransportFault):
    pass


class Exchange:
    """`status` and `headers` are upstream's; `chunk` has its body."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self.status = 0
        self.headers: Headers = CIMultiDict()
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(deadline, self._fail, Late())
        self._parser = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._held = 0  # bytes
        self._taker: Take | None = None  # while somebody waits
        self._untaken = b""  # what it returned last
        self._paused = False
        self._decoder: Decoder | None = None
        self._complete = False
        self._keep_alive = False
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._sent = True
        self._closed = False

    def send(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Begins to send a body that comes in pieces. The head goes with the first: if none comes, nothing was sent."""
        self._sent = False
        self._sending = self._loop.create_task(self._send(head, body))

    async def begin(self) -> None:
        """Waits for the answer's head. Raises what ends the exchange first."""
        while not self.status:
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

    def _pop_held(self) -> bytes:
        """What is held, and no longer is."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        if self._paused:
            self._paused = False
            self._connection.resume()
        return data

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
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._fail(Broken(str(fault.__context__ or fault)))  # what a callback raised
            self._connection.close()  # even if the answer was whole: more came than was asked for
        if not self.status and self._head_size > LONGEST_HEAD:
            self._fail(Broken("the head of its answer is too large"))
        self._wake()

    def eof_received(self) -> None:
        if self.status and self._ends_with_connection():
            self.on_message_complete()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Broken(str(exc or "it was closed")))

    def _ends_with_connection(self) -> bool:
        """RFC 9112, 6.3."""
        has_length = "content-length" in self.headers or "transfer-encoding" in self.headers
        return not has_length and self.status not in BODILESS

    # What the parser says. It stops at what is raised here, and raises an error of its own.

    def on_message_begin(self) -> None:
        if self.status:
            raise Broken("a second answer follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is of a trailer, which nobody has asked for (RFC 9110, 6.5.1)
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer: another follows
            self.headers.clear()
            return
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ENCODINGS:
            self._decoder = Decoder(encoding)
        elif encoding not in {"", "identity"}:
            raise Broken(f"its answer is encoded as {encoding[:50]}")
        self.status = status
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        piece = data if self._decoder is None else self._decoder.decode(data)
        if not piece:
            return
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > MOST_HELD and not self._paused:
            self._paused = True
            self._connection.pause()

    def on_message_complete(self) -> None:
        if not self.status:  # of an interim answer
            return
        if self._decoder is not None and not self._decoder.whole:
            self._fail(Broken("its encoded answer is not whole"))
        self._complete = self._fault is None
