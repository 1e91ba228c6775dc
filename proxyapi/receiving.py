"""Owns a request's body on its way in: whole or piece by piece, under its cap, and the caller's departure.

Nobody else calls ASGI's `receive`. While the body arrives a departure raises `CallerGone`; from then on it
cancels the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from proxyapi.capacity import capacity
from proxyapi.connection import Connection
from proxyapi.exceptions import BodyTooLarge, CallerGone, RequestTimeout, ShuttingDown

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# A form's fields and part headers, beside the file that MAX_UPLOAD_BYTES allows.
FORM_ALLOWANCE = 1024 * 1024


class RequestBody:
    """The body of one request. `size` is how much of it has come, `complete` whether that is all."""

    def __init__(self, receive: Receive, connection: Connection, *, is_form: bool, announced: str) -> None:
        self.size = 0
        self.complete = False
        self.caller_gone = False
        self.announced = int(announced) if announced.isdecimal() else None
        self._receive = receive
        self._connection = connection
        self._limit = settings.MAX_UPLOAD_BYTES + FORM_ALLOWANCE if is_form else settings.MAX_BODY_BYTES
        self._call = asyncio.current_task()

    async def read(self) -> bytes:
        """The whole of it.

        Raises:
            BodyTooLarge: it is, or says that it will be.
            RequestTimeout: it was not there within REQUEST_TIMEOUT.
            ShuttingDown: the server stops, and it is still not there.
            CallerGone: it will never be.
        """
        self.check_announced()
        if self._connection.has_whole_body:  # as most are when their call begins: no clock is needed
            return await self._next_piece()
        try:
            async with asyncio.timeout(settings.REQUEST_TIMEOUT) as patience:
                with capacity.receiving(patience):
                    pieces = [piece async for piece in self.pieces()]
        except TimeoutError:
            raise (ShuttingDown() if capacity.draining else RequestTimeout()) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """As it comes, without empty pieces. Raises `BodyTooLarge` and `CallerGone`, as `read` does."""
        self.check_announced()
        while not self.complete:
            if piece := await self._next_piece():
                yield piece

    async def _next_piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.caller_gone = True
            raise CallerGone
        piece: bytes = message["body"]
        self.size += len(piece)
        if self.size > self._limit:
            raise self._too_large()
        if not message["more_body"]:
            self.complete = True
            self._connection.watch_departure(self._departed)
        return piece

    def close(self) -> None:
        """The call has ended: nobody cares any more whether its caller leaves."""
        self._connection.forget_departure(self._departed)

    def check_announced(self) -> None:
        """Raises `BodyTooLarge` if the body says that it will be: `read` and `pieces` ask, too."""
        if self.announced is not None and self.announced > self._limit:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is larger than {self._limit} bytes.")

    def _departed(self) -> None:
        self.caller_gone = True
        if self._call is not None:
            self._call.cancel()
