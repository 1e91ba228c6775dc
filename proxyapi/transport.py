"""Owns the sockets to upstream: an aiohttp session behind httpx2's transport interface.

The SDK's own aiohttp transport is close, but it reports "upstream hung up" as a connect timeout
and keeps cookies; here every fault has the name that says whether upstream may have seen the
call, no cookie is stored, and closing an unfinished answer closes its connection at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2

# Most specific first: a certificate fault is a connect fault, a reset is any other.
FAULTS: tuple[tuple[type[Exception], type[httpx2.RequestError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.ConnectError),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
)


@contextmanager
def translated_faults() -> Iterator[None]:
    """Raises aiohttp's faults as httpx2's, which the SDK knows."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as fault:  # a TimeoutError is an OSError
        for foreign, ours in FAULTS:
            if isinstance(fault, foreign):
                raise ours(str(fault)) from fault
        raise


class AnswerStream(httpx2.AsyncByteStream):
    """The body of one answer, in the pieces in which it arrives."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translated_faults():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """One session per process, to one upstream; calls are limited by `capacity`, not by a pool."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._proxy = environment_proxy(base_url)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions.get("timeout", {})
        with translated_faults():
            answer = await self._open_session().request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=request_body(request),
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(sock_connect=timeout.get("connect"), sock_read=timeout.get("read")),
            )
        return httpx2.Response(answer.status, headers=answer.raw_headers, stream=AnswerStream(answer), request=request)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = httpx2.create_ssl_context() if self._base_url.startswith("https:") else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            )
            # aiohttp's own, hidden repetition of GET and DELETE; ours are in `upstream.send`. It has no public switch.
            self._session._retry_connection = False
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def request_body(request: httpx2.Request) -> bytes | httpx2.AsyncByteStream | None:
    """The body as bytes, or, for a multipart form, as a stream sent piece by piece."""
    try:
        return request.content or None
    except httpx2.RequestNotRead:
        return request.stream if isinstance(request.stream, httpx2.AsyncByteStream) else None


def environment_proxy(url: str) -> str | None:
    """The HTTP proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`, …) names for `url`."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
