"""Owns one socket to upstream, on which exchanges follow one another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxyapi.upstream.exchange import UNLIMITED, Body, Exchange, Silence


class Connection(asyncio.Protocol):
    """A socket to upstream. `vacant` is called when it can be used again, `lost` when it never can."""

    _transport: asyncio.Transport

    def __init__(self, vacant: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self.vacant_since = 0.0
        self._vacant = vacant
        self._lost = lost
        self._exchange: Exchange | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    async def exchange(self, head: bytes, body: Body, deadline: float, silence: Silence = UNLIMITED) -> Exchange:
        """Sends a request, and returns when the head of its answer is here.

        Raises:
            TransportFault: there is none.
        """
        exchange = self._exchange = Exchange(self, deadline, silence)
        try:
            if body is None:
                self._transport.write(head)
            elif isinstance(body, bytes):
                self._transport.writelines([head, body])
            else:
                exchange.send(head, body)
            await exchange.begin()
        except BaseException:  # a border: whatever it is, it is cleaned up and goes on
            exchange.close()
            raise
        return exchange

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more."""
        self._transport.write(data)
        await self._writable.wait()

    def pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        self._transport.abort()

    def ended(self, *, reusable: bool) -> None:
        self._exchange = None
        # Upstream may not wait for what has not left yet, and close.
        if reusable and not self.closing and not self._transport.get_write_buffer_size():
            self._vacant(self)
        else:
            self.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's has both directions

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # nobody has asked for anything
        else:
            self._exchange.data_received(data)

    def eof_received(self) -> None:
        """Upstream says no more; over TLS only if it said so there, too (RFC 9112, 9.8)."""
        if self._exchange is not None:
            self._exchange.eof_received()
        self.close()  # at once: there may be bytes that it does not take

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._lost(self)
        if self._exchange is not None:
            self._exchange.connection_lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
