"""Owns the pace of wrong keys: how many requests of one client network are refused in a minute as for any other.

The next ones are refused with 429. Only refusals are counted and slowed: a valid key passes at once, from every
address, since an office or a proxy has one address for all. So the answer never says whether a key exists.

A log line a minute and network says how many there were; the keys themselves are not kept.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from django.conf import settings

from proxyapi.exceptions import InvalidKey, ProxyError, TooManyInvalidKeys
from proxyapi.strangers.client_network import client_network

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
SWEEP_SECONDS = 10.0
# Networks that are counted at the same time; beyond it the one that was refused least recently is forgotten.
MAX_NETWORKS = 10_000
MAX_LINES = 20  # a sweep: whoever has many addresses shall not fill the log


@dataclass
class Window:
    """The refusals of one network since its first one, at most `WINDOW_SECONDS` ago (seconds of `time.monotonic`)."""

    began: float
    count: int = 0


class RefusalPace:
    """Counts refusals by network; use from the event loop only."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None

    def refuse(self, error: InvalidKey, address: str) -> ProxyError:
        """Counts a refusal of this client; returns `error`, or what to answer instead if there are many."""
        _forget_frames(error)
        seconds = self.count(address)
        if not seconds:
            return error
        too_many = TooManyInvalidKeys(retry_after=math.ceil(seconds))
        # The SDK repeats a 429 by itself; with the same key that would be in vain.
        too_many.headers |= {"Connection": "close", "X-Should-Retry": "false"}
        return too_many

    def count(self, address: str) -> float:
        """Counts a refusal; returns 0, or if there are too many the seconds until they are counted anew."""
        now = time.monotonic()
        network = client_network(address)
        window = self._windows.get(network)
        if window is None or now - window.began >= WINDOW_SECONDS:
            if window is not None:
                _log(network, window)
            window = self._windows[network] = Window(began=now)
            if len(self._windows) > MAX_NETWORKS:
                self._windows.popitem(last=False)
            self._schedule_sweep()
        self._windows.move_to_end(network)
        window.count += 1
        if window.count <= settings.INVALID_KEYS_PER_MINUTE:
            return 0
        return max(1.0, window.began + WINDOW_SECONDS - now)

    def _schedule_sweep(self) -> None:
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._log_ended)

    def _log_ended(self) -> None:
        """Logs and forgets the windows that are over."""
        self._sweep = None
        now = time.monotonic()
        ended = {name: window for name, window in self._windows.items() if now - window.began >= WINDOW_SECONDS}
        for network in ended:
            del self._windows[network]
        most_first = sorted(ended.items(), key=lambda item: item[1].count, reverse=True)
        for network, window in most_first[:MAX_LINES]:
            _log(network, window)
        if rest := most_first[MAX_LINES:]:
            logger.warning(
                "%d more requests with a missing or invalid key within a minute, from %d other addresses",
                sum(window.count for _, window in rest),
                len(rest),
            )
        if self._windows:
            self._schedule_sweep()


def _forget_frames(fault: BaseException | None) -> None:
    """Drops the tracebacks of an error and its causes: they may have a body in them while the answer waits."""
    while fault is not None:
        fault.__traceback__ = None
        fault = fault.__context__


def _log(network: str, window: Window) -> None:
    logger.warning("%d requests with a missing or invalid key from %s within a minute", window.count, network)


refusal_pace = RefusalPace()
