"""Owns how answers leave: a head with its body in one packet, and a close that waits for what is still to be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class JoiningTransport:
    """uvicorn's way to the socket, on which a head can wait for its body: one system call, one packet."""

    def __init__(self, transport: Any, closes_slowly: Callable[[], None]) -> None:
        self._transport = transport
        self._closes_slowly = closes_slowly  # called when it closes with bytes that have not left
        self._holding = False
        self._held = b""
        self._linger: Callable[[], None] | None = None
        self._lingers = False

    def linger(self, linger: Callable[[], None]) -> None:
        """The next close calls `linger`, which closes later; the one after it closes at once."""
        self._linger = linger

    def hold_next(self) -> None:
        self._holding = True

    def write(self, data: bytes) -> None:
        if self._holding:
            self._holding = False
            self._held = data
        elif self._held:
            self._transport.writelines([self._held, data])
            self._held = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
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
        """Drops the callbacks, which refer to the object that owns this one; the connection has been lost."""
        self._linger = None
        self._closes_slowly = lambda: None

    def is_closing(self) -> bool:
        return self._lingers or bool(self._transport.is_closing())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
