"""Owns the sockets to upstream: one aiohttp session per process, and what its faults mean.

    TransportFault
    ├── NotConnected      no connection: upstream never heard of the call
    │   └── ConnectTimeout    in time
    ├── ReadTimeout       connected, and no byte for too long
    └── Broken            connected, and then cut, or not HTTP

No cookie is stored, nothing is repeated, no redirect is followed. An exception that a body raises while it is
sent is raised as it is. Closing an unfinished exchange closes its connection at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
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


class ReadTimeout(TransportFault):
    pass


class Broken(TransportFault):
    pass


# Most specific first: a certificate fault is a connect fault, a reset is any other.
FAULTS: tuple[tuple[type[Exception], type[TransportFault]], ...] = (
    (aiohttp.ConnectionTimeoutError, ConnectTimeout),
    (aiohttp.ServerTimeoutError, ReadTimeout),
    (TimeoutError, ReadTimeout),
    (aiohttp.ClientConnectorError, NotConnected),
    (aiohttp.InvalidURL, NotConnected),
    (aiohttp.ClientError, Broken),
    (OSError, Broken),
)


@contextmanager
def named_faults() -> Iterator[None]:
    """Raises aiohttp's faults by the names of this module."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as fault:  # a TimeoutError is an OSError
        if isinstance(fault.__cause__, ProxyError | CallerGone):
            raise fault.__cause__ from None
        raise next(ours for foreign, ours in FAULTS if isinstance(fault, foreign))(str(fault)) from fault


class Exchange:
    """One request sent and the head of its answer; the body is still to come."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, decoded if it was encoded, in the pieces in which it arrives.

        Raises:
            TransportFault: it did not arrive whole.
        """
        with named_faults():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    def close(self, *, reusable: bool = True) -> None:
        """Gives the connection back, or closes it if the exchange has not ended."""
        if reusable and self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class Transport:
    """One session to one upstream; calls are limited by `capacity`, not by a pool."""

    def __init__(self, base_url: str, *, connect_timeout: float, read_timeout: float) -> None:
        self._base_url = base_url
        self._proxy = environment_proxy(base_url)
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout, sock_read=read_timeout)
        self._session: aiohttp.ClientSession | None = None

    async def open(self, method: str, target: str, headers: Headers, body: Body) -> Exchange:
        """Sends a request; `target` is a path and query below the base URL, as they go on the wire.

        Raises:
            TransportFault: there is no answer.
        """
        with named_faults():
            answer = await self._open_session().request(
                method,
                URL(self._base_url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=self._timeout,
            )
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
