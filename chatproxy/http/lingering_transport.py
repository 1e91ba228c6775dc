"""The transport through which answers are sent: its close can be delayed, and is reported if bytes are unsent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LingeringTransport:
    """Wrapper of asyncio's transport to a client that can delay its close, for a client that still sends a body.

    `closes_slowly` is called when the transport is closed while some bytes of the answer are still unsent.
    """

    # uvicorn closes the transport after an answer; a client that is still sending might then lose the answer.
    def __init__(self, transport: asyncio.Transport, closes_slowly: Callable[[], None]) -> None:
        self._transport = transport
        self._closes_slowly = closes_slowly
        self._linger: Callable[[], None] | None = None
        self._lingers = False
        self.write = transport.write  # without `__getattr__`: each event of a stream goes through it
        self.writelines = transport.writelines

    def linger(self, on_half_close: Callable[[], None]) -> None:
        """Makes the next `close` a half-close: it ends only the sending, and bytes can still be received.

        After the half-close, `close` calls the function `on_half_close`, which must schedule a second `close`. The
        second `close` closes the connection.
        """
        self._linger = on_half_close

    def close(self) -> None:
        """Closes the connection. After `linger`, the first call only ends the sending, and the second one closes it.

        Calls `closes_slowly` if some bytes are not sent yet.
        """
        if self._linger is not None and not self.is_closing():
            self._lingers = True
            self._transport.write_eof()
            self._linger()
        else:
            self._transport.close()
        if self._transport.get_write_buffer_size():
            self._closes_slowly()

    def forget_callbacks(self) -> None:
        """Drops the callbacks of a lost connection, so that the connection's memory is freed at once."""
        # They refer to the connection, which refers to this transport: a cycle that would keep both in memory.
        self._linger = None
        self._closes_slowly = lambda: None

    def is_closing(self) -> bool:
        """Returns whether the connection is closed or being closed, even if `linger` delays the close."""
        return self._lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> object:
        """Returns an attribute of the wrapped transport, for names that this wrapper does not define."""
        return getattr(self._transport, name)
