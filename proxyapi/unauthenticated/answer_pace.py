"""The pace of answers to senders who have shown no valid key and have not signed in.

The smallest request takes a tenth of a millisecond of CPU, and one network line can carry thousands a second. So a
worker answers only `PROMPT_PER_WORKER` such requests per second at once, and `PROMPT_PER_NETWORK` of each client
network. Later ones get their answers late. A client that waits for its answers then asks no faster, and one that does
not wait is limited by its number of connections. Nothing is refused: health checks and visitors are never that fast,
and during an attack they only wait a second longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from proxyapi.unauthenticated.client_network import client_network

PROMPT_PER_NETWORK = 100  # answers a second
PROMPT_PER_WORKER = 200
DELAY_SECONDS = 1.0
# So many waiting answers double the delay. So no more than this number leave in a second, however many wait.
WAITING_PER_DELAY = 500


class StrangerPace:
    """Brake on a worker's answers to clients without a valid key: too many answers in one second are delayed.

    For use from the worker's event loop only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._prompt = 0  # answers of this second that were not delayed
        self._prompt_of: dict[str, int] = {}
        self.waiting = 0

    def delay(self, address: str) -> float:
        """Counts an answer to a client without a valid key; returns the seconds by which to delay it, mostly 0.

        The delay is 0 as long as few such answers go out in the present second, in total and to the network of
        `address`. It grows with the number of answers that wait.
        """
        second = int(self._clock())
        if second != self._second:
            self._second, self._prompt = second, 0
            self._prompt_of.clear()
        if self._prompt < PROMPT_PER_WORKER:
            network = client_network(address)
            count = self._prompt_of.get(network, 0)
            if count < PROMPT_PER_NETWORK:
                self._prompt_of[network] = count + 1
                self._prompt += 1
                return 0.0
        return DELAY_SECONDS * (1 + self.waiting / WAITING_PER_DELAY)

    async def wait(self, address: str) -> None:
        """Counts an answer to a client without a valid key, and waits until the answer may be sent."""
        seconds = self.delay(address)
        if not seconds:
            return
        self.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.waiting -= 1


stranger_pace = StrangerPace()
