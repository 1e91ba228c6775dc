"""Owns the calls to upstream, through the official SDK; the only module that imports it.

Invariants: one client and one pool per process; the host never comes from a caller; a call that
creates something is sent once; every setting that the SDK would read from the environment by
itself is passed explicitly.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
import openai
from django.conf import settings
from openai import AsyncOpenAI, AsyncStream

from proxyapi.exceptions import ProxyError, UpstreamTimeout, UpstreamUnreachable
from proxyapi.transport import AiohttpTransport

CONNECT_TIMEOUT = 5.0
SAFE_METHODS = {"GET", "DELETE"}
RETRIES = 2
RETRY_PAUSE = 0.1

# What passes from upstream's answer to the caller, besides the two prefixes.
PASSED_HEADERS = {"content-type", "cache-control", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry"}
PASSED_PREFIXES = ("openai-", "x-ratelimit-")
# RFC 9110, 5.5; without the bytes that only old software sends, which have no one meaning.
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

NOT_BILLED = "Upstream was not reached, so the call was not billed."
MAYBE_BILLED = "The call may have reached upstream and may have been billed."


# The part's name, then its file name (None: a plain field), its bytes and its content type.
FormPart = tuple[str, tuple[str | None, bytes, str | None]]


@dataclass(frozen=True)
class Credentials:
    """Whose account pays upstream."""

    api_key: str
    project: str | None = None
    organization: str | None = None


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream. `path` is below the base URL, `query` is already encoded.

    `deadline` is on the event loop's clock, in seconds; it bounds the whole call.
    A call has `content` or a `form`, or neither.
    """

    method: str
    path: str
    credentials: Credentials
    deadline: float
    query: str = ""
    content: bytes | None = None
    form: list[FormPart] = field(default_factory=list)


class UpstreamAnswer:
    """Upstream's answer, its head read, its body not yet."""

    def __init__(self, response: httpx2.Response, deadline: float) -> None:
        self._response = response
        self._body: bytes | None = None
        self.deadline = deadline
        self.status = response.status_code

    @property
    def content_type(self) -> str:
        return self._response.headers.get("content-type", "")

    @property
    def is_event_stream(self) -> bool:
        return self.content_type.lower().startswith("text/event-stream")

    @property
    def request_id(self) -> str:
        return self._response.headers.get("x-request-id", "")

    def passed_headers(self) -> dict[str, str]:
        """The headers that the caller may see; a repeated one is joined (RFC 9110, 5.3)."""
        headers = self._response.headers
        return {
            name: headers[name]
            for name in headers
            if (name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)) and HEADER_VALUE.fullmatch(headers[name])
        }

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamUnreachable: the connection died before the end.
            UpstreamTimeout: the deadline passed.
        """
        if self._body is None:
            self._body = b"".join([chunk async for chunk in self.chunks()])
        return self._body

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in the pieces in which it arrives; raises as `read`."""
        if self._response.is_stream_consumed:  # an error status: the SDK has read it
            yield self._response.content
            return
        pieces = self._response.aiter_bytes()
        while True:
            try:
                async with asyncio.timeout_at(self.deadline):
                    chunk = await anext(pieces, None)
            except (TimeoutError, httpx2.TimeoutException) as fault:
                raise UpstreamTimeout(f"Upstream did not finish in time. {MAYBE_BILLED}") from fault
            except (httpx2.RequestError, httpx2.StreamError) as fault:
                raise UpstreamUnreachable(
                    f"The connection to upstream broke during the answer. {MAYBE_BILLED}", code="upstream_disconnected"
                ) from fault
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        """Ends the exchange; a body not read to its end costs the connection, so upstream stops."""
        await self._response.aclose()


@cache
def client() -> AsyncOpenAI:
    """The process's SDK client. Its key is a stand-in: each call brings its own."""
    # No argument says "none" to this one, which could add a header to every call.
    os.environ.pop("OPENAI_CUSTOM_HEADERS", None)
    timeout = httpx2.Timeout(settings.REQUEST_TIMEOUT, connect=CONNECT_TIMEOUT)
    http_client = httpx2.AsyncClient(
        transport=AiohttpTransport(settings.OPENAI_BASE_URL),
        timeout=timeout,
        follow_redirects=False,
        # One caller's cookie must not go up with the next caller's call.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    return AsyncOpenAI(
        api_key="sk-set-per-call",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=settings.OPENAI_BASE_URL,
        max_retries=0,
        timeout=timeout,
        http_client=http_client,
    )


async def close() -> None:
    await client().close()
    client.cache_clear()


async def send(request: UpstreamRequest) -> UpstreamAnswer:
    """Sends `request` and returns upstream's answer, whatever its status.

    Raises:
        UpstreamUnreachable: no connection, or it died before the head of an answer.
        UpstreamTimeout: no connection or no head of an answer in time.
    """
    attempts = 1 + (RETRIES if request.method in SAFE_METHODS else 0)
    for attempt in range(1, attempts + 1):
        try:
            answer = await _send_once(request)
            if attempts > 1 and not answer.is_event_stream:
                try:
                    await answer.read()  # a body that breaks off is a connection fault too
                except BaseException:
                    await answer.aclose()
                    raise
            return answer
        except UpstreamUnreachable:
            if attempt == attempts:
                raise
            await asyncio.sleep(RETRY_PAUSE * attempt)
    raise AssertionError("unreachable")


async def _send_once(request: UpstreamRequest) -> UpstreamAnswer:
    try:
        async with asyncio.timeout_at(request.deadline):
            response = await _through_sdk(request)
    except openai.APIStatusError as error:
        response = error.response
    except openai.APIConnectionError as error:
        raise _failure(error.__cause__ or error) from error
    except (TimeoutError, httpx2.RequestError) as error:  # our deadline; the body of an error answer
        raise _failure(error) from error
    answer = UpstreamAnswer(response, request.deadline)
    if not 200 <= answer.status < 600:
        await answer.aclose()
        raise UpstreamUnreachable(f"Upstream answered with status {answer.status}, which is none. {MAYBE_BILLED}")
    return answer


async def _through_sdk(request: UpstreamRequest) -> httpx2.Response:
    credentials = request.credentials
    headers: dict[str, str | openai.Omit] = {
        "Authorization": f"Bearer {credentials.api_key}",
        "OpenAI-Organization": credentials.organization or openai.Omit(),
        "OpenAI-Project": credentials.project or openai.Omit(),
        # The bytes are read on the way; a stream that is compressed arrives late.
        "Accept-Encoding": "identity",
    }
    if request.form:
        headers["Content-Type"] = "multipart/form-data"
    path = f"{request.path}?{request.query}" if request.query else request.path
    # A raw response, its body not read: an overload that the SDK has but does not declare.
    sdk: Any = client()
    raw = {"cast_to": httpx2.Response, "options": {"headers": headers}}
    unread = {"stream": True, "stream_cls": AsyncStream[object]}
    response: httpx2.Response
    match request.method:
        case "GET":
            response = await sdk.get(path, **raw, **unread)
        case "DELETE":
            response = await sdk.delete(path, **raw)
        case _:
            response = await sdk.post(path, content=request.content, files=request.form or None, **raw, **unread)
    return response


def _failure(cause: BaseException) -> ProxyError:
    match cause:
        case httpx2.ConnectTimeout():
            return UpstreamTimeout(f"No connection to upstream in {CONNECT_TIMEOUT:g} seconds. {NOT_BILLED}")
        case httpx2.TimeoutException() | TimeoutError():
            return UpstreamTimeout(f"Upstream did not answer in time. {MAYBE_BILLED}")
        case httpx2.ConnectError():
            return UpstreamUnreachable(f"No connection to upstream. {NOT_BILLED}")
        case _:
            return UpstreamUnreachable(f"The connection to upstream broke before an answer. {MAYBE_BILLED}")
