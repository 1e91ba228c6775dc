"""Makes calls one after the other, from several clients, and records how each call ended."""

from __future__ import annotations

import threading
from types import TracebackType

import httpx2

from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import SECURITY_KEY

CLIENTS = 6
PAUSE_SECONDS = 0.01  # of each client; without it, calls would take the time of what the tests wait for
CALL = {
    "security_key": SECURITY_KEY,
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi"}],
}


class SteadyLoad:
    """Context manager that calls the gateway at `url` until its block ends, from `CLIENTS` clients, with short pauses.

    `ids` are the request ids of the calls that have succeeded, and `failures` the answers or errors of the others. No
    client repeats a call.
    """

    def __init__(self, url: str, *, new_connections: bool = False) -> None:
        self.ids: list[str] = []
        self.failures: list[str] = []
        self._url = url
        self._headers = {"connection": "close"} if new_connections else {}
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call_until_end) for _ in range(CLIENTS)]

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def wait_for_calls(self, count: int) -> None:
        """Waits until `count` more calls have ended, successfully or not."""
        before = self._ended()
        wait_until(lambda: self._ended() >= before + count)

    def _ended(self) -> int:
        return len(self.ids) + len(self.failures)

    def _call_until_end(self) -> None:
        with httpx2.Client(timeout=PATIENCE, headers=self._headers) as client:
            while not self._ends.wait(PAUSE_SECONDS):
                try:
                    answer = client.post(self._url, json=CALL)
                except httpx2.TransportError as error:
                    self.failures.append(repr(error))
                else:
                    if answer.status_code == 200:
                        self.ids.append(answer.headers["x-proxy-request-id"])
                    else:
                        self.failures.append(f"{answer.status_code} {answer.text}")
