"""Owns how fast people who have not signed in get the pages of the admin and of "My usage".

Such a page takes milliseconds of the worker, a login a hundred times as many, and its calls wait meanwhile. So these
requests take turns: each network and the worker have a rate and a burst. A request beyond it waits `MAX_WAIT_SECONDS`
at most, or is refused at once. Whoever has signed in does not wait: the worker remembers cookies that it has seen to be
good. Static files are not counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from proxyapi import my_usage
from proxyapi.client_network import client_network
from proxyapi.exceptions import TooManyPages
from usage.counters import counters

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 5.0
LOGIN_PATH = "/admin/login/"
LOGIN_COST = 10  # pages; a password's hash is made slow on purpose
MAX_NETWORKS = 10_000  # that are counted; beyond it the one that came least recently is forgotten
MAX_COOKIES = 10_000
COOKIE_SECONDS = 600.0  # how long a cookie is taken for good without another look
LONGEST_COOKIES = 8192  # bytes of a Cookie header that are looked at
WARNING_SECONDS = 60.0


class Rate(NamedTuple):
    """Pages a second, and how many may come at once after a pause."""

    per_second: float
    burst: float


OF_WORKER = Rate(20.0, 100.0)
OF_NETWORK = Rate(10.0, 80.0)


class PagePace:
    """The pace of one worker; use from its event loop only, but `remember` from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When what was admitted would all have been served at the rate alone (the "generic cell rate algorithm").
        self._worker_until = 0.0
        self._networks_until: OrderedDict[str, float] = OrderedDict()
        self._good_until: dict[bytes, float] = {}
        self._warned_at = -WARNING_SECONDS

    async def wait_turn(self, address: str, method: str, path: str) -> None:
        """Returns when the request of this client may go on.

        Raises:
            TooManyPages: it would have to wait too long.
        """
        is_login = method == "POST" and path == LOGIN_PATH
        seconds = self.reserve(client_network(address), LOGIN_COST if is_login else 1)
        if seconds:
            await asyncio.sleep(seconds)

    def reserve(self, network: str, cost: float) -> float:
        """Takes a turn; returns the seconds until it comes. A request that is refused takes none of others' turns.

        Raises:
            TooManyPages: that would be more than `MAX_WAIT_SECONDS`.
        """
        now = self._clock()
        worker_until = max(self._worker_until, now) + cost / OF_WORKER.per_second
        network_until = max(self._networks_until.get(network, now), now) + cost / OF_NETWORK.per_second
        waits = (_wait(worker_until, OF_WORKER, now), _wait(network_until, OF_NETWORK, now))
        seconds = round(max(0.0, *waits), 3)
        if seconds > MAX_WAIT_SECONDS:
            self._count_refusal(network, now)
            raise TooManyPages(retry_after=math.ceil(seconds))
        self._worker_until = worker_until
        self._networks_until[network] = network_until
        self._networks_until.move_to_end(network)
        if len(self._networks_until) > MAX_NETWORKS:
            self._networks_until.popitem(last=False)
        return seconds

    def has_good_cookie(self, scope: Mapping[str, Any]) -> bool:
        """Whether the request has a cookie that was seen to be good."""
        header = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        if not header or not self._good_until or len(header) > LONGEST_COOKIES:
            return False
        cookies = _cookies(header)
        now = self._clock()
        return any(self._good_until.get(_digest(cookies.get(name, "")), 0.0) > now for name in cookie_names())

    def remember(self, cookie: str) -> None:
        """This cookie's value belongs to somebody who has signed in."""
        if len(self._good_until) >= MAX_COOKIES:
            self._good_until.clear()
        self._good_until[_digest(cookie)] = self._clock() + COOKIE_SECONDS

    def _count_refusal(self, network: str, now: float) -> None:
        counters.count_refusal(TooManyPages.code)
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            logger.warning("a page was refused: too many requests for pages without a login, the last from %s", network)


class RememberSignedIn:
    """Middleware: tells the pace whose cookie is good, once a page has found out."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        session, key = (request.COOKIES.get(name, "") for name in cookie_names())
        user = getattr(request, "_cached_user", None)  # Django's; asking for another would be a query of its own
        if session and user is not None and user.is_authenticated:
            page_pace.remember(session)
        if key and my_usage.signed_in(request) is not None:
            page_pace.remember(key)
        return response


def cookie_names() -> tuple[str, str]:
    """The cookies that a login leaves: of the admin and of "My usage"."""
    return settings.SESSION_COOKIE_NAME, my_usage.COOKIE


def _wait(until: float, rate: Rate, now: float) -> float:
    return until - rate.burst / rate.per_second - now


def _digest(cookie: str) -> bytes:
    return hashlib.blake2b(cookie.encode("utf-8", "replace"), digest_size=16).digest()


def _cookies(header: bytes) -> dict[str, str]:
    try:
        found = SimpleCookie(header.decode("latin-1"))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}


page_pace = PagePace()
