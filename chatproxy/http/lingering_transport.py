"""The transport through which answers leave: one that can be closed late, and notices if it is closed too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LingeringTransport:
    """Transport to a client that can delay its close while the client still sends the body of a request.

    It wraps asyncio's transport. uvicorn closes the transport after an answer; a client that is still sending might
    then lose the answer. `closes_slowly` is called when the connection is closed while bytes are still unsent.
    """

    def __init__(self, transport: asyncio.Transport, closes_slowly: Callable[[], None]) -> None:
        self._transport = transport
        self._closes_slowly = closes_slowly
        self._linger: Callable[[], None] | None = None
        self._lingers = False
        self.write = transport.write  # without `__getattr__`: each event of a stream goes through it
        self.writelines = transport.writelines

    def linger(self, linger: Callable[[], None]) -> None:
        """Delays the closing: the next `close` only ends the sending, and calls the function `linger`.

        That function must later call `close` a second time, which closes the connection.
        """
        self._linger = linger

    def close(self) -> None:
        """Closes the connection, in two steps if `linger` was called before.

        The first call of `close` then only ends the sending, and the second call closes the connection.
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
        """Drops the references to the callbacks of a lost connection, so that its memory is freed at once.

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
