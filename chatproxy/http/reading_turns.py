"""The order in which strangers' bytes are parsed: one piece of one connection in each turn of the event loop.

A piece that consists of tiny chunks takes a millisecond. However many connections send such pieces at the same time,
calls continue between the pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# A function that parses the next piece of one connection, and returns whether there are more.
ReadPiece = Callable[[], bool]


class ReadingTurns:
    """A queue of client connections whose received bytes wait to be parsed, in the order of their arrival.

    In each turn of the event loop, a piece of one connection's bytes is parsed. Used from one event loop only.
    """

    def __init__(self) -> None:
        self._waiting: deque[ReadPiece] = deque()

    def add(self, read_piece: ReadPiece) -> None:
        """Puts a connection whose received bytes wait to be parsed at the end of the queue of such connections.

        `read_piece` is a function that parses one piece of these bytes, and returns whether more of them wait. It is
        called once in each turn of the connection, in later passes of the event loop, until it returns False.
        """
        self._waiting.append(read_piece)
        if len(self._waiting) == 1:
            self._schedule()

    def _schedule(self) -> None:
        """Asks the event loop to parse one more piece in its next turn."""
        asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        """Parses one piece of the bytes of the first connection in the queue.

        If more bytes of this connection wait, the connection moves to the end of the queue. Otherwise it leaves the
        queue.
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
