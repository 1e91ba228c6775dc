"""Decides the order in which bytes of clients without a valid key are parsed: one piece per turn of the event loop.

Parsing one piece may take a millisecond, if it consists of tiny chunks. However many connections send such pieces at
the same time, calls go on between the pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# A function that parses the next piece of one connection, and returns whether there are more.
ReadPiece = Callable[[], bool]


class ReadingTurns:
    """A queue of client connections whose received bytes wait to be parsed; the first to come is the first served.

    Each turn of the event loop parses a piece of one connection's bytes. For use from one event loop only.
    """

    def __init__(self) -> None:
        self._waiting: deque[ReadPiece] = deque()

    def add(self, read_piece: ReadPiece) -> None:
        """Adds a connection to the end of the queue; `read_piece` parses one piece of its received bytes.

        `read_piece` is called again and again, each time in a later turn of the event loop, until it returns False.
        """
        self._waiting.append(read_piece)
        if len(self._waiting) == 1:
            self._schedule()

    def _schedule(self) -> None:
        """Makes the event loop parse one more piece of received bytes in its next turn."""
        asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        """Parses one piece of the bytes of the first connection in the queue.

        The connection then moves to the end of the queue. It leaves the queue if it has no more bytes, or if parsing
        has raised an error.
        """
        has_more = False
        try:
            has_more = self._waiting[0]()
        finally:  # after an error, too: the other connections have their turns
            self._waiting.rotate(-1)
            if not has_more:
                self._waiting.pop()
            if self._waiting:
                self._schedule()


reading_turns = ReadingTurns()
