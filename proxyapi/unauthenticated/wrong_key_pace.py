"""Slows down wrong keys: after `INVALID_KEYS_PER_MINUTE` refusals, a client network gets 429 for further ones.

Only wrong keys are counted and slowed down. A valid key passes at once from every address, since all people of an
office or behind a proxy share one. A 429 does not tell whether the key exists.

A log line per minute and network has the number of refusals; the wrong keys are not stored.
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
from proxyapi.unauthenticated.client_network import client_network

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
SWEEP_SECONDS = 10.0
# Networks that are counted at the same time; beyond this the one refused least recently is forgotten.
MAX_NETWORKS = 10_000
MAX_LINES = 20  # per sweep: a client with many addresses must not fill the log


@dataclass
class RefusalWindow:
    """The number of requests from one network that were refused for a missing or wrong key within one minute.

    The minute begins with the first refused request, at `began` (`time.monotonic` seconds).
    """

    began: float
    count: int = 0


class RefusalPace:
    """Counter of the requests that are refused for a missing or wrong key, by client network; too many get status 429.

    For use from the event loop only.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, RefusalWindow] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None

    def refuse(self, error: InvalidKey, address: str) -> ProxyError:
        """Counts a request with a missing or wrong key, and returns the error to answer with.

        The result is the given `error` or, after too many such requests from one network, an error with status 429.
        """
        _forget_frames(error)
        seconds = self.count(address)
        if not seconds:
            return error
        too_many = TooManyInvalidKeys(retry_after=math.ceil(seconds))
        # The SDK repeats a 429 by itself, which cannot help with the same key.
        too_many.headers |= {"Connection": "close", "X-Should-Retry": "false"}
        return too_many

    def count(self, address: str) -> float:
        """Counts a request with a missing or wrong key; returns for how many seconds to refuse the client with 429.

        The result is 0 for the first `INVALID_KEYS_PER_MINUTE` such requests of a network in a minute. Later, it is the
        time until the minute is over, at least 1 second.
        """
        now = time.monotonic()
        network = client_network(address)
        window = self._windows.get(network)
        if window is None or now - window.began >= WINDOW_SECONDS:
            if window is not None:
                _log(network, window)
            window = self._windows[network] = RefusalWindow(began=now)
            if len(self._windows) > MAX_NETWORKS:
                self._windows.popitem(last=False)
            self._schedule_sweep()
        self._windows.move_to_end(network)
        window.count += 1
        if window.count <= settings.INVALID_KEYS_PER_MINUTE:
            return 0
        return max(1.0, window.began + WINDOW_SECONDS - now)

    def _schedule_sweep(self) -> None:
        """Schedules `_log_ended`, which logs how many requests were refused, if it is not scheduled yet."""
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._log_ended)

    def _log_ended(self) -> None:
        """Logs how many requests were refused, for each network whose minute of counting is over; drops its counter.

        At most `MAX_LINES` networks get a line of their own; one more line has the sum of all others. While other
        networks are being counted, schedules itself again.
        """
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
    """Removes the tracebacks from an error and from its causes: they would keep the request's body in memory."""
    # The frames would keep the body until the request is answered, which may be delayed for long.
    while fault is not None:
        fault.__traceback__ = None
        fault = fault.__context__


def _log(network: str, window: RefusalWindow) -> None:
    """Logs how many requests of `network` were refused for a missing or wrong key within a minute."""
    logger.warning("%d requests with a missing or invalid key from %s within a minute", window.count, network)


refusal_pace = RefusalPace()
