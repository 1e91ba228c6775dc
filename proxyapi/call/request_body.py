"""Receives the body of a request, whole or piece by piece, within limits of size and time.

For calls of the API, nothing else calls ASGI's `receive`. If the caller leaves while the body arrives, `CallerGone` is
raised. If the caller leaves later, the call is cancelled, or goes on if `call_goes_on` is set. As long as the sender
has shown no valid key, the body has a shorter time limit, counts in `proxyapi.unauthenticated.body_memory`, and is
searched for a key while it arrives (`proxyapi.unauthenticated.key_search`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from proxyapi.cached_settings import call_settings
from proxyapi.call.caller_connection import CallerConnection, Receive
from proxyapi.call.capacity import capacity
from proxyapi.exceptions import BodyTooLarge, CallerGone, InvalidKey, RequestTimeout, ShuttingDown
from proxyapi.unauthenticated.body_memory import stranger_budget
from proxyapi.unauthenticated.key_search import KeySearch

# How much larger than MAX_UPLOAD_BYTES, the limit for its file, a form in memory may be: for fields and part headers.
FORM_ALLOWANCE_BYTES = 1024 * 1024
# The size limit of a body in which nothing but a key is expected.
SMALL_BODY_BYTES = 64 * 1024
# The body of a sender without a key in the head is searched for one whenever so many bytes have come, and at its end.
# No body is refused for want of memory before it has been searched once.
SEARCHED_BYTES = 64 * 1024


@dataclass(frozen=True)
class MinimumSpeed:
    """The lowest speed at which a request's body may arrive: `size` bytes in every `seconds` seconds.

    If fewer than `size` bytes of the body are left, all of them must arrive within `seconds`.
    """

    size: int
    seconds: float


STRANGER_START_SPEED = MinimumSpeed(SEARCHED_BYTES, 30.0)
STRANGER_SPEED = MinimumSpeed(15 * 16 * 1024, 15.0)  # 16 KiB a second
CALLER_SPEED = MinimumSpeed(64 * 1024, 60.0)  # about 1 KiB a second


class BodyClock:
    """The time limit for receiving one request's body: `REQUEST_TIMEOUT` for all of it, and a minimum speed."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._last_moment = self._loop.time() + call_settings().REQUEST_TIMEOUT
        self._wanted = 0

    def demand(self, speed: MinimumSpeed, received: int) -> None:
        """Demands that `speed.size` more bytes of the body arrive within `speed.seconds` from now, else it times out.

        The time limit never ends later than `REQUEST_TIMEOUT` after this clock was made. While the process drains, it
        is not changed, because a shorter one has been set. `received` is the number of bytes that have arrived already.
        """
        self._wanted = received + speed.size
        if not capacity.draining:  # otherwise `Capacity.drain` has set a shorter time already
            self._timeout.reschedule(min(self._last_moment, self._loop.time() + speed.seconds))

    def extend_if_met(self, speed: MinimumSpeed, received: int) -> None:
        """Demands the next bytes of the body if all bytes that were demanded before have arrived; else does nothing.

        `speed` is the lowest speed for the next bytes. `received` is the number of bytes that have arrived.
        """
        if received >= self._wanted:
            self.demand(speed, received)


class IncomingBody:
    """The body of one request while it arrives from the client.

    * `size`: the number of bytes that have arrived.
    * `limit`: the highest number of bytes allowed.
    * `announced`: the number of bytes in Content-Length, or None.
    * `complete`: true once the whole body has arrived.
    * `caller_gone`: true once the client has hung up.
    * `call_goes_on`: what happens if the client hangs up after the whole body has arrived: true if the call goes on,
      false if it is cancelled.
    * `left_at`: when the client hung up, or got status 504 while the call went on, in seconds of `time.perf_counter()`;
      None until then.
    """

    def __init__(
        self, receive: Receive, connection: CallerConnection, *, is_form: bool, announced: str, client_address: str
    ) -> None:
        self.size = 0
        self.complete = False
        self.caller_gone = False
        self.left_at: float | None = None
        self.call_goes_on = False
        self.announced = int(announced) if announced.isdecimal() else None
        self._receive = receive
        self._connection = connection
        self._client_address = client_address
        given = call_settings()
        self.limit = given.MAX_UPLOAD_BYTES + FORM_ALLOWANCE_BYTES if is_form else given.MAX_BODY_BYTES
        self._setting = "MAX_UPLOAD_BYTES" if is_form else "MAX_BODY_BYTES"
        self._call = asyncio.current_task()

    def lower_limit(self, limit: int) -> None:
        """Lowers the size limit of the body to `limit` bytes; never raises it."""
        if limit < self.limit:
            self.limit, self._setting = limit, ""

    def allow_large_form(self) -> None:
        """Raises the size limit of the body to `MAX_FORM_BYTES`, for a form that goes upstream while it arrives."""
        # Such a form is never in memory as a whole.
        self.limit, self._setting = call_settings().MAX_FORM_BYTES, "MAX_FORM_BYTES"

    def leave(self) -> None:
        """Leaves the request's body unread, for a view that needs no body.

        If the whole body has arrived already, the call is cancelled from now on as soon as the client hangs up.
        """
        # If the body is still arriving, and is not short, the handler closes the connection after the answer.
        if self._connection.has_whole_body:
            self._connection.watch_departure(self._departed)

    async def read(self, search: KeySearch | None = None) -> bytes:
        """Receives the request's whole body and returns it; `search` looks for a valid key while the body arrives.

        Raises:
            BodyTooLarge: the body, or its Content-Length, is over the size limit.
            RequestTimeout: the body has not arrived within REQUEST_TIMEOUT, or comes too slowly.
            InvalidKey: `search` was given and has found no valid key in the whole body.
            TooManyStrangers: no key has been found yet, and the memory for bodies of senders without a key is used up.
            ShuttingDown: the process is draining, and the body has not arrived in the time that is left.
            CallerGone: the client has hung up.
        """
        self.check_announced()
        if self._connection.has_whole_body:  # as nearly always; then no time limit is needed
            body = await self._next_piece()
            if search is not None and not search.finds_key(body, is_last=True):
                raise InvalidKey
            return body
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(None) as timeout:
                clock = BodyClock(timeout)
                with capacity.receiving(timeout):
                    if search is not None:
                        await self._read_until_known(search, pieces, clock)
                    clock.demand(CALLER_SPEED, self.size)
                    async for piece in self.pieces():
                        pieces.append(piece)
                        clock.extend_if_met(CALLER_SPEED, self.size)
        except TimeoutError:
            raise (ShuttingDown() if capacity.draining else RequestTimeout()) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _read_until_known(self, search: KeySearch, pieces: list[bytes], clock: BodyClock) -> None:
        """Receives the body until `search` has found a valid key in it, and appends the received bytes to `pieces`.

        `clock` is the body's time limit; it demands a minimum speed until the key is found. The errors are among those
        of `read`.
        """
        clock.demand(STRANGER_START_SPEED, 0)
        unsearched = bytearray()  # joins small pieces: each object takes memory that is not counted
        with stranger_budget.share(self._client_address) as share:
            async for piece in self.pieces():
                unsearched += piece
                share.add(len(piece))
                clock.extend_if_met(STRANGER_SPEED, self.size)
                if len(unsearched) >= SEARCHED_BYTES:
                    pieces.append(bytes(unsearched))
                    unsearched.clear()
                    if search.finds_key(pieces[-1], is_last=False):
                        return
                if pieces:
                    share.check_room()
            pieces.append(bytes(unsearched))
            if search.finds_key(pieces[-1], is_last=True):
                return
        raise InvalidKey

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the request's body in pieces (bytes, never empty) as they arrive.

        Raises:
            BodyTooLarge: the body, or its Content-Length, is over the size limit.
            CallerGone: the client has hung up.
        """
        self.check_announced()
        while not self.complete:
            if piece := await self._next_piece():
                yield piece

    async def pieces_in_time(self) -> AsyncIterator[bytes]:
        """Yields the request's body in pieces as they arrive, for sending upstream; demands a minimum speed.

        Raises:
            RequestTimeout: the client sends more slowly than `CALLER_SPEED`.
            BodyTooLarge: the body, or its Content-Length, is over the size limit.
            CallerGone: the client has hung up.
        """
        loop = asyncio.get_running_loop()
        self.check_announced()
        seconds, wanted = CALLER_SPEED.seconds, self.size + CALLER_SPEED.size
        while not self.complete:
            began = loop.time()
            try:
                # Only the time spent waiting for the client counts: upstream may be slow in taking the bytes.
                async with asyncio.timeout(seconds):
                    piece = await self._next_piece()
            except TimeoutError:
                raise RequestTimeout from None
            seconds -= loop.time() - began
            if self.size >= wanted:
                seconds, wanted = CALLER_SPEED.seconds, self.size + CALLER_SPEED.size
            if piece:
                yield piece

    async def _next_piece(self) -> bytes:
        """Waits for the next piece of the request's body and returns it; the piece may be empty.

        Once the last piece has arrived, the call is cancelled if the client hangs up, unless `call_goes_on` is set.

        Raises:
            BodyTooLarge: more bytes have arrived than the size limit allows.
            CallerGone: the client has hung up.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.caller_gone = True
            raise CallerGone
        piece: bytes = message["body"]
        self.size += len(piece)
        if self.size > self.limit:
            raise self.too_large()
        if not message["more_body"]:
            self.complete = True
            self._connection.watch_departure(self._departed)
        return piece

    def close(self) -> None:
        """Stops watching for the client's hang-up, after the call has ended."""
        self._connection.forget_departure(self._departed)

    def check_announced(self) -> None:
        """Checks that the request's Content-Length, if it has one, is within the body's size limit.

        Raises:
            BodyTooLarge: it is over the limit.
        """
        if self.announced is not None and self.announced > self.limit:
            raise self.too_large()

    def too_large(self, what: str = "The request body") -> BodyTooLarge:
        """Creates the error for a body over its size limit; the message names the limit and, if any, its setting.

        `what` is the subject of the message's sentence, such as "The form, decoded,".
        """
        reason = f"; the gateway's setting {self._setting} limits it" if self._setting else ""
        return BodyTooLarge(f"{what} is larger than {self.limit} bytes{reason}.")

    def _departed(self) -> None:
        """Records that, and when, the client has hung up; cancels the call's task unless `call_goes_on` is true."""
        self.caller_gone = True
        if self.left_at is None:
            self.left_at = time.perf_counter()
        # A call with `call_goes_on` runs until its usage is known.
        if self._call is not None and not self.call_goes_on:
            self._call.cancel()
