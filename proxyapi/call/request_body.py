"""Receives the body of a request, whole or piece by piece, under a cap and a time limit.

Nothing else calls ASGI's `receive` for a call of the API. While the body arrives, the caller's departure raises
`CallerGone`; from then on a departure cancels the call, or is only noted if the call is to go on without its caller.
The body of a sender without a valid key, as yet, has a shorter time limit, counts in `proxyapi.strangers.body_memory`,
and is searched for a key while it arrives (`proxyapi.strangers.key_search`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from django.conf import settings

from proxyapi.call.caller_connection import CallerConnection, Receive
from proxyapi.call.capacity import capacity
from proxyapi.exceptions import BodyTooLarge, CallerGone, InvalidKey, RequestTimeout, ShuttingDown
from proxyapi.strangers.body_memory import stranger_budget
from proxyapi.strangers.key_search import KeySearch

# For the fields and part headers of a form that is kept in memory, beside the one file that MAX_UPLOAD_BYTES allows.
FORM_ALLOWANCE_BYTES = 1024 * 1024
# The cap of a body in which nothing but a key is expected.
SMALL_BODY_BYTES = 64 * 1024
# A stranger's body is searched for a key whenever so many bytes have come, and at its end. None is refused before.
SEARCHED_BYTES = 64 * 1024


@dataclass(frozen=True)
class MinimumSpeed:
    """A minimum speed: `size` bytes in every `seconds`, or the rest of the body."""

    size: int
    seconds: float


STRANGER_START_SPEED = MinimumSpeed(SEARCHED_BYTES, 30.0)
STRANGER_SPEED = MinimumSpeed(15 * 16 * 1024, 15.0)  # 16 KiB a second
CALLER_SPEED = MinimumSpeed(64 * 1024, 60.0)  # about 1 KiB a second


class BodyClock:
    """The time limit of one body: `REQUEST_TIMEOUT` for all of it, and a minimum speed meanwhile."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._last_moment = self._loop.time() + settings.REQUEST_TIMEOUT
        self._wanted = 0

    def demand(self, speed: MinimumSpeed, received: int) -> None:
        """Demands a speed from now on. `received` is the number of bytes that are here already."""
        self._wanted = received + speed.size
        if not capacity.draining:  # a drain has set a shorter time
            self._timeout.reschedule(min(self._last_moment, self._loop.time() + speed.seconds))

    def tick(self, speed: MinimumSpeed, received: int) -> None:
        """Starts the next period of the minimum speed, if the bytes of this one have come."""
        if received >= self._wanted:
            self.demand(speed, received)


class IncomingBody:
    """The body of one request while it arrives.

    `size` is the number of bytes that have come, `limit` the cap, `announced` the Content-Length, if there is one.
    `complete`: all of it has come. `caller_gone`: the caller has left, at `left_at` (`time.perf_counter()` seconds).
    `call_goes_on`: the departure of the caller does not cancel the call.
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
        self.limit = settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE_BYTES if is_form else settings.MAX_BODY_BYTES
        self._setting = "MAX_UPLOAD_BYTES" if is_form else "MAX_BODY_BYTES"
        self._call = asyncio.current_task()

    def restrict(self, limit: int) -> None:
        """Lowers the cap to `limit` bytes."""
        if limit < self.limit:
            self.limit, self._setting = limit, ""

    def allow_large_form(self) -> None:
        """Raises the cap to MAX_FORM_BYTES, for a form that is passed on and not kept in memory."""
        self.limit, self._setting = settings.MAX_FORM_BYTES, "MAX_FORM_BYTES"

    def leave(self) -> None:
        """Leaves the body unread. If it has not arrived yet, the handler closes the connection after the answer."""
        if self._connection.has_whole_body:
            self._connection.watch_departure(self._departed)

    async def read(self, search: KeySearch | None = None) -> bytes:
        """Receives and returns the whole body. With a `search`, a valid key must be found in the body while it arrives.

        Raises:
            BodyTooLarge: the body is over its cap, or its Content-Length is.
            RequestTimeout: the body has not arrived within REQUEST_TIMEOUT, or too slowly.
            InvalidKey: the search has found no key.
            TooManyStrangers: the search has not found a key yet, and there is no memory for more bodies of strangers.
            ShuttingDown: the server is stopping, and the body has not arrived in time.
            CallerGone: the caller has left.
        """
        self.check_announced()
        if self._connection.has_whole_body:  # as most are when their call begins: then no time limit is needed
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
                        clock.tick(CALLER_SPEED, self.size)
        except TimeoutError:
            raise (ShuttingDown() if capacity.draining else RequestTimeout()) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _read_until_known(self, search: KeySearch, pieces: list[bytes], clock: BodyClock) -> None:
        """Receives bytes into `pieces` until `search` finds a key. Raises what `read` raises."""
        clock.demand(STRANGER_START_SPEED, 0)
        unsearched = bytearray()  # joins small pieces, which would take more memory than is counted
        with stranger_budget.share(self._client_address) as share:
            async for piece in self.pieces():
                unsearched += piece
                share.add(len(piece))
                clock.tick(STRANGER_SPEED, self.size)
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
        """Yields the body as it arrives, without empty pieces. Raises `BodyTooLarge` and `CallerGone`, as `read`."""
        self.check_announced()
        while not self.complete:
            if piece := await self._next_piece():
                yield piece

    async def pieces_in_time(self) -> AsyncIterator[bytes]:
        """Yields the body as it arrives, if it comes at `CALLER_SPEED` at least; for one that is passed on.

        Only the time spent waiting for the caller counts: upstream may be slow in taking the bytes.

        Raises:
            RequestTimeout: the body comes too slowly.
        """
        loop = asyncio.get_running_loop()
        self.check_announced()
        seconds, wanted = CALLER_SPEED.seconds, self.size + CALLER_SPEED.size
        while not self.complete:
            began = loop.time()
            try:
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
        """Receives the next piece, which may be empty. Behind the last one a departure cancels the call."""
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
        """Stops watching for the caller's departure: the call has ended."""
        self._connection.forget_departure(self._departed)

    def check_announced(self) -> None:
        """Raises `BodyTooLarge` if the Content-Length is over the cap. `read` and `pieces` check this themselves."""
        if self.announced is not None and self.announced > self.limit:
            raise self.too_large()

    def too_large(self, what: str = "The request body") -> BodyTooLarge:
        """Returns the error for a body over its cap, which names the setting."""
        reason = f"; the gateway's setting {self._setting} limits it" if self._setting else ""
        return BodyTooLarge(f"{what} is larger than {self.limit} bytes{reason}.")

    def _departed(self) -> None:
        """Cancels the call, whose caller has left, unless the call goes on for its usage."""
        self.caller_gone = True
        if self.left_at is None:
            self.left_at = time.perf_counter()
        if self._call is not None and not self.call_goes_on:
            self._call.cancel()
