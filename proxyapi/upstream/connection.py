"""One connection to upstream, for one exchange after another."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from proxyapi.upstream.exchange import UNLIMITED, Body, Exchange, SilenceLimits


class Connection(asyncio.Protocol):
    """One connection to upstream: a socket that carries one exchange after another.

    The connection calls `vacant` when it is free for another exchange, and `lost` when it is closed.
    """

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
        """True if the connection is closed or about to be."""
        return self._transport.is_closing()

    @property
    def has_unread_bytes(self) -> bool:
        """True if bytes from upstream, or the end of the connection, have arrived that were not processed yet."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def exchange(self, head: bytes, body: Body, deadline: float, silence: SilenceLimits = UNLIMITED) -> Exchange:
        """Sends a request on this connection; returns the exchange when the answer's head has arrived.

        `body` is None, bytes, or an iterator of bytes. An exception that the iterator raises is raised unchanged.

        Raises:
            TransportFault: the head did not arrive.
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
        except BaseException:  # a border: cleans up after any exception, and raises it
            exchange.close()
            raise
        return exchange

    async def write(self, data: bytes) -> None:
        """Sends bytes of a request to upstream, and waits until the socket's buffer has room for more."""
        self._transport.write(data)
        await self._writable.wait()

    def pause(self) -> None:
        """Stops reading from the socket to upstream, until `resume` is called."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Starts to read from the socket to upstream again, after `pause`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Closes the connection to upstream at once; bytes that have not been sent yet are lost."""
        self._transport.abort()

    def ended(self, *, reusable: bool) -> None:
        """Frees this connection after an exchange: keeps it open for another exchange if `reusable`, else closes it.

        Also closes the connection if bytes of the request still wait to be sent.
        """
        self._exchange = None
        # Upstream may close without reading those bytes.
        if reusable and not self.closing and not self._transport.get_write_buffer_size():
            self._vacant(self)
        else:
            self.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's transport both reads and writes

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # upstream sends without a request
        else:
            self._exchange.data_received(data)

    def eof_received(self) -> None:
        """Ends the current exchange and closes the connection, because upstream has closed its side."""
        # With TLS this is called only after upstream's closing alert (RFC 9112, 9.8).
        if self._exchange is not None:
            self._exchange.eof_received()
        self.close()  # at once: upstream may not read the bytes that still wait to be sent

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._lost(self)
        if self._exchange is not None:
            self._exchange.connection_lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
