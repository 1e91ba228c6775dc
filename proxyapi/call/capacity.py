"""Counts the calls in flight in this process, limits their number, and lets them finish before the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from proxyapi.cached_settings import call_settings
from proxyapi.exceptions import Overloaded

# Once no new connections are taken, a request's body that is still arriving has so much time left. Less than gunicorn
# allows beyond REQUEST_TIMEOUT (`chatproxy.processes.gunicorn_conf`): the call itself may take all of that.
DRAINED_BODY_SECONDS = 20.0


class Capacity:
    """Counter of the calls in flight in this process, with their limit; for use from the event loop only.

    * `in_flight`: the number of calls now.
    * `peak`: the highest number of calls since the process began.
    * `stopping`: true once the whole server is stopping. Load balancers should send no new calls then; calls that come
      are served.
    * `draining`: true once this process takes no new connections.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.peak = 0
        self.stopping = False
        self.draining = False
        self._receiving: set[asyncio.Timeout] = set()

    def take_slot(self) -> None:
        """Takes a slot: counts one more call in flight, until `give_slot` is called.

        Raises:
            Overloaded: `MAX_PARALLEL_REQUESTS` calls are in flight already.
        """
        self.check_room()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def give_slot(self) -> None:
        """Frees a slot: counts one call in flight fewer, after its answer has been sent or its caller has left."""
        self.in_flight -= 1

    def check_room(self) -> None:
        """Checks that one more call may run.

        Raises:
            Overloaded: `MAX_PARALLEL_REQUESTS` calls are in flight already.
        """
        if self.in_flight >= call_settings().MAX_PARALLEL_REQUESTS:
            raise Overloaded

    @contextmanager
    def receiving(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Context manager around the receiving of a request's body: inside it, `drain` can shorten the time limit.

        `timeout` is the time limit for the body. If the process is draining already, it is shortened at once.
        """
        if self.draining:
            self._shorten(timeout)
        self._receiving.add(timeout)
        try:
            yield
        finally:
            self._receiving.discard(timeout)

    def stop(self) -> None:
        """Records that the whole server is stopping, so that `/readyz` says so."""
        self.stopping = True

    def drain(self) -> None:
        """Records that this process is ending: it takes no new connections, and finishes the calls it has.

        Request bodies that are still arriving get at most `DRAINED_BODY_SECONDS` more.
        """
        self.draining = True
        for timeout in self._receiving:
            self._shorten(timeout)

    @staticmethod
    def _shorten(timeout: asyncio.Timeout) -> None:
        """Lowers the time limit for receiving a request's body to at most `DRAINED_BODY_SECONDS` from now."""
        if timeout.expired():  # it cannot be changed any more; the task that it cancels has not run yet
            return
        deadline, drained_at = timeout.when(), asyncio.get_running_loop().time() + DRAINED_BODY_SECONDS
        if deadline is None or deadline > drained_at:
            timeout.reschedule(drained_at)


capacity = Capacity()
