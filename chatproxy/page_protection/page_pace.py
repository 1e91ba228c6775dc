"""Limits how many pages of the admin and of "My usage" are made for visitors who have not signed in.

Such a page takes a worker milliseconds, and a login takes a hundred times as long; each request holds a thread and a
database connection. So each client and each worker has a rate and a burst for these requests, and only few of them run
at the same time. A request beyond these limits waits twice `MAX_WAIT_SECONDS` at most, or is refused. Refusals are
delayed, so that a client that waits for them cannot send requests faster.

Visitors who have signed in with an account are not counted: the worker remembers cookies that were found to be valid. A
device on which somebody has signed in before (`chatproxy.page_protection.known_device`) counts as a client of its own,
without the worker's limits, so that a flood of strangers cannot keep earlier users away. So does each key whose holder
has signed in, on all devices together: whoever has a key, perhaps a stolen one, cannot keep administrators away. Static
files are not counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from asgiref.typing import HTTPScope
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatproxy.page_protection.known_device import ADMIN_DEVICE, KEY_DEVICE
from proxyapi.exceptions import TooManyPages
from proxyapi.pages import key_sessions
from proxyapi.unauthenticated.client_network import client_network
from usage.metric_counters import counters

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 5.0  # to keep to the rate; and as long once more until other requests have run
REFUSAL_SECONDS = 1.0  # how long a refusal is delayed
LOGIN_PATH = "/admin/login/"
LOGIN_COST = 20  # as how many pages a login counts, because hashing a password is slow on purpose
MAX_CLIENTS = 10_000  # counted at the same time; beyond that, the client whose last request is oldest is forgotten
MAX_COOKIES = 10_000  # valid cookies that are remembered
COOKIE_SECONDS = 600.0  # how long a cookie counts as valid before it is checked again
MAX_COOKIE_BYTES = 8192  # a longer Cookie header is not read
WARNING_SECONDS = 60.0


class PageRate(NamedTuple):
    """A limit on requests for pages: how many are allowed per second, and how many at once (`burst`) after a pause."""

    per_second: float
    burst: float


WORKER_RATE = PageRate(12.0, 100.0)
CLIENT_RATE = PageRate(10.0, 80.0)
# Requests that run at the same time. Each may hold one of the 8 connections of the worker's pool.
WORKER_PARALLEL = 4
CLIENT_PARALLEL = 2


class Visitor(NamedTuple):
    """A client that requests a page without a login; `is_known` if somebody has signed in on the device before.

    `name` is the client's network or, for a known device, `device` and the device's id. For the holder of a key it is
    `key` and the name of the key.
    """

    name: str
    is_known: bool = False


class PagePace:
    """The limits of one worker on requests for pages without a login: how many a second, and how many at once.

    Each visitor has such a limit; all unknown visitors together have another one. All methods but `remember_cookie` and
    `remember_holder` must be called in the worker's event loop. `clock` returns seconds, and `sleep` waits for as many
    seconds as it is given.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        # When all admitted requests would be done, one after the other at the rate ("generic cell rate algorithm").
        self._worker_until = 0.0
        self._clients_until: OrderedDict[Visitor, float] = OrderedDict()
        self._of_worker = asyncio.Semaphore(WORKER_PARALLEL)
        self._of_clients: WeakValueDictionary[Visitor, asyncio.Semaphore] = WeakValueDictionary()
        self._good_until: dict[bytes, float] = {}
        self._holders: dict[bytes, tuple[float, str]] = {}  # until when a cookie is good, and the name of the key
        self._warned_at = -WARNING_SECONDS

    @asynccontextmanager
    async def turn(self, visitor: Visitor, method: str, path: str) -> AsyncGenerator[None]:
        """Context manager that waits until a request for a page may run; the request counts as running in its block.

        A login (POST to `LOGIN_PATH`) counts as `LOGIN_COST` pages.

        Raises:
            TooManyPages: the request would have to wait for too long (raised after a pause of `REFUSAL_SECONDS`), or
                has waited for `MAX_WAIT_SECONDS`. The refusal is counted and logged.
        """
        is_login = method == "POST" and path == LOGIN_PATH
        try:
            seconds = self.reserve(visitor, LOGIN_COST if is_login else 1)
        except TooManyPages:
            await self._sleep(REFUSAL_SECONDS)
            raise
        if seconds:
            await self._sleep(seconds)
        of_client = self._of_clients.setdefault(visitor, asyncio.Semaphore(CLIENT_PARALLEL))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(MAX_WAIT_SECONDS):
                    await held.enter_async_context(of_client)
                    if not visitor.is_known:
                        await held.enter_async_context(self._of_worker)
            except TimeoutError:
                raise self._refusal(visitor, MAX_WAIT_SECONDS) from None
            yield

    def reserve(self, visitor: Visitor, cost: float) -> float:
        """Counts a request for a page against the rate of its visitor; returns the seconds that the request must wait.

        The request counts as `cost` pages. If the visitor is unknown, the request counts against the worker's rate,
        too.

        Raises:
            TooManyPages: the request would wait longer than `MAX_WAIT_SECONDS`. The refusal is counted; the rates are
                unchanged.
        """
        # A login is much more work than a page, and costs more.
        now = self._clock()
        client_until = max(self._clients_until.get(visitor, now), now) + cost / CLIENT_RATE.per_second
        worker_until = self._worker_until
        seconds = _seconds_to_wait(client_until, CLIENT_RATE, now)
        if not visitor.is_known:
            worker_until = max(worker_until, now) + cost / WORKER_RATE.per_second
            seconds = max(seconds, _seconds_to_wait(worker_until, WORKER_RATE, now))
        if seconds > MAX_WAIT_SECONDS:
            raise self._refusal(visitor, seconds)
        self._worker_until = worker_until
        self._clients_until[visitor] = client_until
        self._clients_until.move_to_end(visitor)
        if len(self._clients_until) > MAX_CLIENTS:
            self._clients_until.popitem(last=False)
        return seconds

    def has_good_cookie(self, cookies: Mapping[str, str]) -> bool:
        """Returns whether a request has a session cookie that was found valid in the last `COOKIE_SECONDS`."""
        return self._good_until.get(_digest(cookies.get(settings.SESSION_COOKIE_NAME, "")), 0.0) > self._clock()

    def remember_cookie(self, cookie: str) -> None:
        """Stores the digest of a valid session cookie; requests with it are not limited for `COOKIE_SECONDS`.

        If `MAX_COOKIES` cookies are stored already, all of them are forgotten first.
        """
        if len(self._good_until) >= MAX_COOKIES:
            self._good_until.clear()
        self._good_until[_digest(cookie)] = self._clock() + COOKIE_SECONDS

    def holder_of(self, cookies: Mapping[str, str]) -> str | None:
        """Returns the name of the key whose holder has sent a request, if its cookie was valid in `COOKIE_SECONDS`.

        Returns None for any other request.
        """
        until, key = self._holders.get(_digest(cookies.get(key_sessions.COOKIE, "")), (0.0, ""))
        return key if until > self._clock() else None

    def remember_holder(self, cookie: str, key: str) -> None:
        """Stores the digest of a valid cookie of "My usage" with the name of the key, for `COOKIE_SECONDS`.

        If `MAX_COOKIES` cookies are stored already, all of them are forgotten first.
        """
        if len(self._holders) >= MAX_COOKIES:
            self._holders.clear()
        self._holders[_digest(cookie)] = (self._clock() + COOKIE_SECONDS, key)

    def _refusal(self, visitor: Visitor, seconds: float) -> TooManyPages:
        """Counts the refusal of a request for a page, logs at most one per minute, and returns the error to raise.

        The error tells the client to try again after `seconds`.
        """
        counters.count_refusal(TooManyPages.code)
        now = self._clock()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            logger.warning(
                "a page was refused: too many requests for pages without a login, the last from %s", visitor.name
            )
        return TooManyPages(retry_after=math.ceil(seconds))


class RememberSignedIn:
    """Middleware that tells `page_pace`, the limit on requests for pages, which login cookies are valid."""

    # `page_pace` acts before Django makes a page, when nobody knows yet whether the visitor is signed in. This acts
    # afterwards, for later requests with the cookie. `page_pace` keeps only digests of the cookies, in memory.
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        session, key = (request.COOKIES.get(name, "") for name in login_cookies())
        user = getattr(request, "_cached_user", None)  # Django's; `request.user` might make a query of its own
        if session and user is not None and user.is_authenticated:
            page_pace.remember_cookie(session)
        if key and (entry := key_sessions.find_signed_in(request)) is not None and entry.caller is not None:
            page_pace.remember_holder(key, entry.caller.name)
        return response


def login_cookies() -> tuple[str, str]:
    """Returns the names of the two login cookies: that of the admin, and that of "My usage"."""
    return settings.SESSION_COOKIE_NAME, key_sessions.COOKIE


def cookies_of(scope: HTTPScope) -> dict[str, str]:
    """Returns a request's login cookies and device cookies, as a dict from name to value.

    The dict is empty if the Cookie header has more than `MAX_COOKIE_BYTES`.
    """
    header = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    if not header or len(header) > MAX_COOKIE_BYTES:
        return {}
    names = {*login_cookies(), ADMIN_DEVICE.name, KEY_DEVICE.name}
    found = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in COOKIE.findall(header))
    return {name: value for name, value in found if name in names}


def visitor_of(cookies: Mapping[str, str], address: str) -> Visitor:
    """Returns the visitor that a request without a session counts for: a key, a known device, or the client's network.

    It is a key if its holder is signed in to "My usage", or has signed in before on the same device. A device is known
    if a device cookie in `cookies` shows that somebody has signed in on it before.
    """
    if (key := page_pace.holder_of(cookies)) is not None:
        return Visitor(f"key {key}", is_known=True)
    if (device := ADMIN_DEVICE.read(cookies)) is not None:
        return Visitor(f"device {device.device_id}", is_known=True)
    # Not by the device's id: whoever has a key may sign in with it as often as they like, each time for another id.
    if (device := KEY_DEVICE.read(cookies)) is not None:
        return Visitor(f"key {device.owner}", is_known=True)
    return Visitor(client_network(address))


# Much faster than http.cookies. Reads names and values without spaces only: the server's own cookies have none.
COOKIE = re.compile(rb"(?<![^;\s])([^=;\s]+)=([^;\s]*)")


def _seconds_to_wait(until: float, rate: PageRate, now: float) -> float:
    """Returns how many seconds after `now` a request must wait to keep to a rate; 0 if it may run at once.

    `until` is the time at which this request and all earlier ones would be done if they ran one after the other at the
    rate. The wait ends earlier than that, since `rate.burst` requests may run at once.
    """
    return max(0.0, round(until - rate.burst / rate.per_second - now, 3))


def _digest(cookie: str) -> bytes:
    """Returns the digest of a login cookie, to be stored instead of the cookie."""
    return hashlib.blake2b(cookie.encode("utf-8", "replace"), digest_size=16).digest()


page_pace = PagePace()
