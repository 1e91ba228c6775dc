"""The transport through which answers leave: sends a head and its body in one packet, and can close late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class JoiningTransport:
    """Wrapper of uvicorn's transport that sends an answer's head and body in one packet, by one system call.

    `closes_slowly` is called when the connection is closed while bytes are still unsent.
    """

    def __init__(self, transport: asyncio.Transport, closes_slowly: Callable[[], None]) -> None:
        self._transport = transport
        self._closes_slowly = closes_slowly
        self._holds_next = False
        self._held = b""
        self._linger: Callable[[], None] | None = None
        self._lingers = False

    def linger(self, linger: Callable[[], None]) -> None:
        """Makes the next `close` end only the sending; it then calls the function `linger`, which closes later.

        That `close` also sends the bytes that were kept back. The second `close`, by `linger`, closes the connection.
        """
        self._linger = linger

    def hold_next(self) -> None:
        """Makes the next `write` keep its bytes back, so that they leave in one packet with those of the next one."""
        self._holds_next = True

    def write(self, data: bytes) -> None:
        """Sends bytes to the client, together with bytes that were kept back before.

        Keeps the bytes back instead if `hold_next` was called before.
        """
        if self._holds_next:
            self._holds_next = False
            self._held = data
        elif self._held:
            self._transport.writelines([self._held, data])
            self._held = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Sends the bytes that were kept back, and closes the connection.

        If `linger` was called, only the sending ends now, and the connection is closed later.
        """
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
        """Drops the references to the callbacks, once the connection is lost, so that the memory is freed at once.

        The callbacks refer to the connection and the connection refers to this transport: a cycle that would keep both
        in memory.
        """
        self._linger = None
        self._closes_slowly = lambda: None

    def is_closing(self) -> bool:
        """Returns whether the connection is closed or being closed.

        That is so from the first `close` on, even if the connection is to be closed later (`linger`).
        """
        return self._lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> object:
        """Returns an attribute of the wrapped transport, for every name that the wrapper does not define."""
        return getattr(self._transport, name)
