"""Owns the sockets to upstream: one aiohttp session per process, and what its faults mean.

    TransportFault
    ├── NotConnected      no connection: upstream never heard of the call
    │   └── ConnectTimeout    in time
    ├── Late              its time was over before its end
    └── Broken            connected, and then cut, or not HTTP

No cookie is stored, nothing is repeated, no redirect is followed. An exception that a body raises while it is
sent is raised as it is. Closing an unfinished exchange closes its connection at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from yarl import URL

from proxyapi.exceptions import CallerGone, ProxyError
from proxyapi.headers import Headers

Body = bytes | AsyncIterator[bytes] | None


class TransportFault(Exception):
    """The exchange with upstream failed."""


class NotConnected(TransportFault):
    pass


class ConnectTimeout(NotConnected):
    pass


class Late(TransportFault):
    pass


class Broken(TransportFault):
    pass


# Most specific first: a certificate fault is a connect fault, a reset is any other.
FAULTS: tuple[tuple[type[Exception], type[TransportFault]], ...] = (
    (aiohttp.ConnectionTimeoutError, ConnectTimeout),
    (TimeoutError, Late),
    (aiohttp.ClientConnectorError, NotConnected),
    (aiohttp.InvalidURL, NotConnected),
    (aiohttp.ClientError, Broken),
    (OSError, Broken),
)
FOREIGN = (aiohttp.ClientError, OSError)  # a TimeoutError is an OSError


def named(fault: Exception) -> Exception:
    """A fault of aiohttp's by its name in this module, or what a body raised while it was sent."""
    if isinstance(fault.__cause__, ProxyError | CallerGone):
        return fault.__cause__
    named = next(ours for foreign, ours in FAULTS if isinstance(fault, foreign))(str(fault))
    named.__cause__ = fault
    return named


class Exchange:
    """One request sent and the head of its answer; the body is still to come."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = answer.headers

    async def chunk(self) -> bytes:
        """What has arrived of the body, decoded if it was encoded; empty at its end.

        Raises:
            TransportFault: it did not arrive whole.
        """
        try:
            return await self._answer.content.readany()
        except FOREIGN as fault:
            raise named(fault) from None

    def close(self, *, reusable: bool = True) -> None:
        """Gives the connection back, or closes it if the exchange has not ended."""
        if reusable and self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class Transport:
    """One session to one upstream; calls are limited by `capacity`, not by a pool."""

    def __init__(self, base_url: str, *, connect_timeout: float) -> None:
        self._base_url = base_url
        self._proxy = environment_proxy(base_url)
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self, method: str, target: str, headers: Headers, body: Body, deadline: float) -> Exchange:
        """Sends a request; `target` is a path and query below the base URL, as they go on the wire.

        The whole exchange must be over at `deadline`, on the event loop's clock: one timer, however many pieces.

        Raises:
            TransportFault: there is no answer.
        """
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise Late
        try:
            answer = await self._open_session().request(
                method,
                URL(self._base_url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(left, sock_connect=self._connect_timeout, ceil_threshold=math.inf),
            )
        except FOREIGN as fault:
            raise named(fault) from None
        return Exchange(answer)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = httpx2.create_ssl_context() if self._base_url.startswith("https:") else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            )
            # aiohttp's own, hidden repetition of GET and DELETE; ours are in `upstream.send`. It has no public switch.
            self._session._retry_connection = False
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def environment_proxy(url: str) -> str | None:
    """The HTTP proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`, …) names for `url`."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
