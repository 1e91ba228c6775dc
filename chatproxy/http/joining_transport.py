"""The transport through which answers leave: sends a head and its body in one packet, and can close late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class JoiningTransport:
    """Wraps the transport that uvicorn writes to, so that a head can wait for its body: one system call, one packet.

    `closes_slowly` is called when the transport is closed while bytes have not left yet.
    """

    def __init__(self, transport: asyncio.Transport, closes_slowly: Callable[[], None]) -> None:
        self._transport = transport
        self._closes_slowly = closes_slowly
        self._holds_next = False
        self._held = b""
        self._linger: Callable[[], None] | None = None
        self._lingers = False

    def linger(self, linger: Callable[[], None]) -> None:
        """Delays the next close: it calls the function `linger`, which closes later. A second close closes at once."""
        self._linger = linger

    def hold_next(self) -> None:
        """Makes the next `write` wait, so that its bytes leave together with those of the one after it."""
        self._holds_next = True

    def write(self, data: bytes) -> None:
        """Sends bytes, after those that are held; or holds them, if `hold_next` was called before."""
        if self._holds_next:
            self._holds_next = False
            self._held = data
        elif self._held:
            self._transport.writelines([self._held, data])
            self._held = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Sends what is held, and closes; or, after `linger`, ends the sending direction only."""
        if self._held:
            self._transport.write(self._held)
            self._held = b""
        if self._linger is not None and not self.is_closing():
            self._lingers = True
            self._transport.write_eof()
            self._linger()
        else:
            self._transport.close()
        if self._transport.get_write_buffer_size():
            self._closes_slowly()

    def forget_callbacks(self) -> None:
        """Drops the callbacks: they refer to the connection that owns this transport, and has been lost."""
        self._linger = None
        self._closes_slowly = lambda: None

    def is_closing(self) -> bool:
        """Returns whether `close` was called; true as well while the close itself waits."""
        return self._lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> object:
        """Passes everything else on to the wrapped transport."""
        return getattr(self._transport, name)
