"""Sends requests to upstream, each on an account.

The official SDK supplies the base URL and, once for each account, the headers of a client; `transport` moves the bytes.
(The SDK's own machinery takes four times as much CPU for a call, and would parse what must pass unchanged.)

Invariants: one client and one pool of connections per process; the host never comes from a caller; a call that creates
something is sent once; each setting that the SDK would read from the environment by itself is passed explicitly.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import cache, lru_cache

import httpx2
from django.conf import settings
from openai import AsyncOpenAI

from proxyapi.exceptions import (
    UpstreamUnreachable,
)
from proxyapi.upstream import self_calls
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.exchange import Body, SilenceLimits
from proxyapi.upstream.failures import error_of
from proxyapi.upstream.faults import TransportFault
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.request import UpstreamRequest
from proxyapi.upstream.transport import Transport

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds
SAFE_METHODS = {"GET", "DELETE"}
RETRIES = 2
RETRY_PAUSE = 0.1  # seconds, times the number of attempts


@cache
def client() -> AsyncOpenAI:
    """Returns this process's client of the OpenAI SDK, which only supplies the base URL and the SDK's headers."""
    # The variable could add a header to every call, and no argument switches it off.
    os.environ.pop("OPENAI_CUSTOM_HEADERS", None)
    # The key is a placeholder, which `account_headers` replaces by that of the account that pays for the request.
    return AsyncOpenAI(
        api_key="sk-set-per-account",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=settings.OPENAI_BASE_URL,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)),
    )


def refuse(request: httpx2.Request) -> httpx2.Response:
    """Raises RuntimeError for every request; replaces the HTTP transport of the OpenAI SDK's client."""
    # The SDK's client must send nothing itself.
    raise RuntimeError("calls go through proxyapi.upstream.transport")


@cache
def transport() -> Transport:
    """Returns the pool of this process's connections to upstream; there is only one."""
    base_url = str(client().base_url).rstrip("/")
    silence = SilenceLimits(settings.FIRST_BYTE_TIMEOUT, settings.IDLE_TIMEOUT)
    return Transport(base_url, connect_timeout=CONNECT_TIMEOUT, silence=silence)


async def close() -> None:
    """Closes all connections of this process to upstream."""
    await transport().close()
    transport.cache_clear()


@lru_cache(maxsize=256)
def account_headers(credentials: Credentials) -> Headers:
    """Returns the headers that the OpenAI SDK sends with every request of this account, with the account's API key."""
    account = client().copy(
        api_key=credentials.api_key, organization=credentials.organization, project=credentials.project
    )
    headers = {**account.default_headers, **account.auth_headers}
    return Headers({name: value for name, value in headers.items() if isinstance(value, str) and value})


async def send(request: UpstreamRequest) -> UpstreamAnswer:
    """Sends a request to upstream, and returns the answer as soon as its head has arrived, whatever its status.

    If the connection fails, a GET or DELETE is sent up to `RETRIES` times more.

    Raises:
        UpstreamUnreachable: no connection could be opened, or it broke before the head of an answer.
        UpstreamTimeout: no connection was opened, or no head of an answer arrived, in time.
        RequestTimeout: the deadline passed while the caller was still sending the body.
        UpstreamAnswerTooLarge: the answer to a GET or DELETE is text, was read here, and is too large.
    """
    # An upload arrives only once, so it cannot be sent again.
    attempts = 1 + (RETRIES if request.method in SAFE_METHODS and request.upload is None else 0)
    for attempt in range(1, attempts + 1):
        try:
            answer = await _send_once(request)
            # Read whole here: a connection that breaks within the answer is a reason to send the request again, too.
            if attempts > 1 and answer.is_text:
                try:
                    await answer.read()  # a body that breaks off is a fault of the connection, too
                except BaseException:  # a border: cleans up after any exception, and raises it
                    answer.close()
                    raise
            return answer
        except UpstreamUnreachable:
            if attempt == attempts:
                raise
            await asyncio.sleep(RETRY_PAUSE * attempt)
    raise AssertionError("unreachable")


async def _send_once(request: UpstreamRequest) -> UpstreamAnswer:
    """Sends a request to upstream once, and returns the answer as soon as its head has arrived.

    Raises `UpstreamUnreachable`, `UpstreamTimeout` or `RequestTimeout`, as `send` does.
    """
    headers, body = _head_and_body(request)
    target = f"{request.path}?{request.query}" if request.query else request.path
    try:
        exchange = await transport().open(request.method, target, headers, body, request.deadline)
    except TransportFault as fault:
        raise error_of(fault, request) from fault
    return UpstreamAnswer(exchange, request)


def _head_and_body(request: UpstreamRequest) -> tuple[Headers, Body]:
    """Returns the headers, with the account's credentials, and the body that go upstream for a request."""
    credentials = request.credentials
    headers = account_headers(credentials).copy() if request.headers is None else request.headers.copy()
    headers["Authorization"] = f"Bearer {credentials.api_key}"
    if credentials.organization:
        headers.setdefault("OpenAI-Organization", credentials.organization)
    if credentials.project:
        headers.setdefault("OpenAI-Project", credentials.project)
    # The gateway reads the answer as it passes, and the events of a compressed stream arrive late.
    headers["Accept-Encoding"] = "identity"
    if own_entry := self_calls.own_entry():
        headers["Via"] = f"{headers['Via']}, {own_entry}" if "Via" in headers else own_entry
    if request.upload is not None:
        if request.headers is None:
            headers["Content-Type"] = request.upload.content_type
        if request.upload.size is not None:
            headers["Content-Length"] = str(request.upload.size)
        return headers, request.upload.pieces()
    if request.method == "GET" and request.headers is None:
        headers.pop("Content-Type", None)
    return headers, request.content
