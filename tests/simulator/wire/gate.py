"""The gate: where answers wait until a test lets them go, so that no test needs to sleep."""

import asyncio
import threading


class Gate:
    """A gate at which answers wait until a test lets them go.

    The waiters live on the server's event loop; `hold` and `release` may be called from any thread.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._waiters: set[asyncio.Future[None]] = set()
        self._held = False

    @property
    def held(self) -> bool:
        return self._held

    @property
    def waiting(self) -> int:
        """The number of answers that wait at the gate."""
        with self._changed:
            return len(self._waiters)

    def hold(self) -> None:
        """Closes the gate: every answer waits, before its head is sent, until `release` is called."""
        self._held = True

    def release(self) -> None:
        """Opens the gate: lets all waiting answers go, and ends a `hold`."""
        with self._changed:
            self._held = False
            for waiter in self._waiters:
                waiter.get_loop().call_soon_threadsafe(_open, waiter)
            self._waiters.clear()
            self._changed.notify_all()

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiters.add(waiter)
            self._changed.notify_all()
        try:
            await waiter
        finally:
            with self._changed:
                self._waiters.discard(waiter)
                self._changed.notify_all()


def _open(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
