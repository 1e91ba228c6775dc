"""Owns a request's body on its way in: whole or piece by piece, its cap, its clock, and the caller's departure.

Nobody else calls ASGI's `receive` for a call of the API. While the body arrives a departure raises `CallerGone`; from
then on it cancels the call. A body whose sender is not known yet has a shorter clock, counts in
`proxyapi.strangers.body_memory`, and is searched for a key as it arrives (`proxyapi.strangers.key_search`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from django.conf import settings

from proxyapi.call.caller_connection import CallerConnection, Receive
from proxyapi.call.capacity import capacity
from proxyapi.exceptions import BodyTooLarge, CallerGone, InvalidKey, RequestTimeout, ShuttingDown
from proxyapi.strangers.body_memory import stranger_budget
from proxyapi.strangers.key_search import KeySearch

# Of a form that is kept in memory: its fields and part headers, beside the one file that MAX_UPLOAD_BYTES allows.
FORM_ALLOWANCE_BYTES = 1024 * 1024
# A body that need not have more in it than a key.
SMALL_BODY_BYTES = 64 * 1024
# A key is looked for whenever so many bytes have come, and at the body's end. Before the first look no body is refused.
SEARCHED_BYTES = 64 * 1024


@dataclass(frozen=True)
class MinimumSpeed:
    """In every `seconds`, `size` bytes have to come, or what is left of the body."""

    size: int
    seconds: float


STRANGER_START_SPEED = MinimumSpeed(SEARCHED_BYTES, 30.0)
STRANGER_SPEED = MinimumSpeed(15 * 16 * 1024, 15.0)  # 16 KiB a second
CALLER_SPEED = MinimumSpeed(64 * 1024, 60.0)  # about 1 KiB a second


class BodyClock:
    """The time that a body has to arrive: `REQUEST_TIMEOUT` in all, and meanwhile the least speed of its sender."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._last_moment = self._loop.time() + settings.REQUEST_TIMEOUT
        self._wanted = 0

    def demand(self, speed: MinimumSpeed, received: int) -> None:
        """From now on the body has to be as fast as `speed`; `received` bytes are here already."""
        self._wanted = received + speed.size
        if not capacity.draining:  # a drain has set a shorter time
            self._timeout.reschedule(min(self._last_moment, self._loop.time() + speed.seconds))

    def tick(self, speed: MinimumSpeed, received: int) -> None:
        """Starts the next period if what this one demanded has come."""
        if received >= self._wanted:
            self.demand(speed, received)


class IncomingBody:
    """The body of one request. `size` is how much of it has come, `complete` whether that is all, `limit` its cap."""

    def __init__(
        self, receive: Receive, connection: CallerConnection, *, is_form: bool, announced: str, client_address: str
    ) -> None:
        self.size = 0
        self.complete = False
        self.caller_gone = False
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
        """Raises the cap to that of a form which is not kept in memory."""
        self.limit, self._setting = settings.MAX_FORM_BYTES, "MAX_FORM_BYTES"

    def leave(self) -> None:
        """Does not read the body, which the view does not need; the handler closes the connection if one is coming."""
        if self._connection.has_whole_body:
            self._connection.watch_departure(self._departed)

    async def read(self, search: KeySearch | None = None) -> bytes:
        """The whole of it. With a `search`, its sender has not shown a key yet, and has to do so in the body.

        Raises:
            BodyTooLarge: it is, or says that it will be.
            RequestTimeout: it was not there within REQUEST_TIMEOUT, or it came too slowly.
            InvalidKey: the search found no key in it.
            TooManyStrangers: the search has found none yet, and there is no memory for more of such bodies.
            ShuttingDown: the server stops, and it is still not there.
            CallerGone: it will never be.
        """
        self.check_announced()
        if self._connection.has_whole_body:  # as most are when their call begins: no clock is needed
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
        """Appends to `pieces` what comes until `search` finds a key; raises as `read`."""
        clock.demand(STRANGER_START_SPEED, 0)
        unsearched = bytearray()  # many small pieces would take more memory than is counted
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
        """As it comes, without empty pieces. Raises `BodyTooLarge` and `CallerGone`, as `read` does."""
        self.check_announced()
        while not self.complete:
            if piece := await self._next_piece():
                yield piece

    async def pieces_in_time(self) -> AsyncIterator[bytes]:
        """As `pieces`, for a body that passes on as it arrives: its caller has to send at the speed of `CALLER_SPEED`.

        Only the time counts in which the caller is waited for: upstream may be slow in taking what is here.

        Raises:
            RequestTimeout: it came too slowly.
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
        """The call has ended: nobody cares any more whether its caller leaves."""
        self._connection.forget_departure(self._departed)

    def check_announced(self) -> None:
        """Raises `BodyTooLarge` if the body says that it will be: `read` and `pieces` ask, too."""
        if self.announced is not None and self.announced > self.limit:
            raise self.too_large()

    def too_large(self, what: str = "The request body") -> BodyTooLarge:
        """The error for a body over its cap."""
        reason = f"; the gateway's setting {self._setting} limits it" if self._setting else ""
        return BodyTooLarge(f"{what} is larger than {self.limit} bytes{reason}.")

    def _departed(self) -> None:
        self.caller_gone = True
        if self._call is not None:
            self._call.cancel()
