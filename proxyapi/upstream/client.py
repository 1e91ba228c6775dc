"""Owns the calls to upstream: as whom they go, what passes either way, and what their failures mean.

The official SDK says where upstream is and how a client of an account introduces itself, once for each account;
`proxyapi.upstream.transport` moves the bytes. (The SDK's own machinery costs four times as much CPU a call, and would
parse what is to pass unchanged.)

Invariants: one client and one pool per process; the host never comes from a caller; a call that creates something
is sent once; every setting that the SDK would read from the environment by itself is passed explicitly.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Protocol

import httpx2
from django.conf import settings
from openai import AsyncOpenAI

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import (
    ProxyError,
    RequestTimeout,
    UpstreamAnswerTooLarge,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxyapi.routes import Route, find_route
from proxyapi.upstream.exchange import Body, Exchange, Silence, Take
from proxyapi.upstream.faults import Broken, ConnectTimeout, InvalidStatus, Late, NotConnected, Silent, TransportFault
from proxyapi.upstream.passed_headers import Headers, pass_down
from proxyapi.upstream.transport import Transport

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
UNREACHABLE_LOG_SECONDS = 60.0
SAFE_METHODS = {"GET", "DELETE"}
RETRIES = 2
RETRY_PAUSE = 0.1
# An answer that is read whole may have so many bytes, decoded.
MAX_WHOLE_BYTES = 256 * 1024 * 1024

NOT_BILLED = "Upstream was not reached, so the call was not billed."
MAYBE_BILLED = "The call may have reached upstream and may have been billed."


# The part's name, then its file name (None: a plain field), its bytes and its content type.
FormPart = tuple[str, tuple[str | None, bytes, str | None]]


@dataclass(frozen=True)
class Credentials:
    """Whose account pays upstream."""

    api_key: str = field(repr=False)
    project: str | None = None
    organization: str | None = None


class Upload(Protocol):
    """A body that is sent on while it is still arriving (`proxyapi.call.uploads`)."""

    @property
    def complete(self) -> bool:
        """Whether its sender has sent all of it."""

    def pieces(self) -> AsyncIterator[bytes]:
        """What there is of it, as it comes; may raise a `ProxyError` or `CallerGone`, which then ends the call."""


@dataclass
class UpstreamRequest:
    """One HTTP request to upstream. `path` is below the base URL, `query` is already encoded.

    `deadline` is on the event loop's clock, in seconds; it bounds the whole call.
    A call has `content`, a `form` or an `upload`, or none of them. `content` are the bytes that go upstream, `json` the
    object in them, which the checks of the call read. With `headers` it goes with these and the account's credentials;
    without, as the SDK would send it.
    """

    method: str
    path: str
    credentials: Credentials
    deadline: float
    query: str = ""
    content: bytes | None = None
    json: JSONBody | None = None
    form: list[FormPart] = field(default_factory=list)
    upload: Upload | None = None
    headers: Headers | None = None

    @property
    def route(self) -> Route | None:
        """The route of `/v1` that the request takes; None if there is no such route."""
        return find_route(self.path)

    @property
    def form_texts(self) -> list[tuple[str, str]]:
        """The form's text fields, by name and value, in their order."""
        return [
            (name, text.decode("utf-8", "replace")) for name, (file_name, text, _) in self.form if file_name is None
        ]

    @property
    def text_size(self) -> int:
        """How many bytes of it checks read: of a form, the fields without the files."""
        json_size = 0 if self.json is None else self.json.size
        return json_size + sum(len(text) for _, (file_name, text, _) in self.form if file_name is None)


class UpstreamAnswer:
    """Upstream's answer, its head read, its body not yet."""

    def __init__(self, exchange: Exchange, request: UpstreamRequest) -> None:
        self._exchange = exchange
        self._body: bytes | None = None
        self._start = b""  # of the body, if it has been looked at and not been given out yet
        self.deadline = request.deadline
        self.status = exchange.status

    @property
    def content_type(self) -> str:
        return self._exchange.headers.get("content-type", "")

    @property
    def is_event_stream(self) -> bool:
        return self.content_type.lower().startswith("text/event-stream")

    @property
    def is_text(self) -> bool:
        """Whether it is worth reading whole: JSON and words are, sound and files are not."""
        kind = self.content_type.lower()
        return not kind or (kind.startswith(("application/json", "text/")) and not self.is_event_stream)

    @property
    def length(self) -> int | None:
        """How many bytes the body will have, if upstream says so."""
        stated = self._exchange.headers.get("content-length", "")
        encoded = "content-encoding" in self._exchange.headers
        return int(stated) if stated.isdecimal() and not encoded else None

    @property
    def request_id(self) -> str:
        return self._exchange.headers.get("x-request-id", "")

    def passed_headers(self) -> dict[str, str]:
        """The headers that the caller may see."""
        return pass_down(self._exchange.headers.items())

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamUnreachable: the connection died before the end.
            UpstreamTimeout: the deadline passed.
            UpstreamAnswerTooLarge: it has, or says that it will have, more than `MAX_WHOLE_BYTES`; upstream is stopped.
        """
        if self._body is None:
            pieces, size = [], self.length or 0
            if size <= MAX_WHOLE_BYTES:
                size = 0
                while size <= MAX_WHOLE_BYTES and (piece := await self.chunk()):
                    pieces.append(piece)
                    size += len(piece)
            if size > MAX_WHOLE_BYTES:
                self.close()
                raise UpstreamAnswerTooLarge(
                    f"Upstream's answer is larger than {MAX_WHOLE_BYTES} bytes, so it was not read to its end."
                    f" {MAYBE_BILLED}"
                )
            self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._body

    async def begins_as(self, reads: Callable[[bytes], bool | None]) -> bool:
        """Waits for the first bytes of the body until `reads` knows what they begin, whatever the label says.

        The answer is closed if they do not come. Raises as `read`.
        """
        try:
            while (begins := reads(self._start)) is None and (piece := await self._chunk(bytes)):
                self._start += piece
        except BaseException:  # a border: whatever it is, it is cleaned up and goes on
            self.close()
            raise
        return bool(begins)

    async def chunk(self, take: Take = bytes) -> bytes:
        """What has arrived of the body since the last call, as `Exchange.chunk` says it. Raises as `read`."""
        if self._start:
            start, self._start = self._start, b""
            if left := take(start):
                return left
        return await self._chunk(take)

    async def _chunk(self, take: Take) -> bytes:
        try:
            return await self._exchange.chunk(take)
        except Silent as fault:
            raise UpstreamTimeout(
                f"Upstream fell silent in the middle of its answer, for {fault.seconds:g} seconds ({fault.setting})."
                f" {MAYBE_BILLED}"
            ) from fault
        except Late as fault:
            raise UpstreamTimeout(f"Upstream did not finish in time. {MAYBE_BILLED}") from fault
        except TransportFault as fault:
            raise UpstreamUnreachable(
                f"The connection to upstream broke during the answer. {MAYBE_BILLED}", code="upstream_disconnected"
            ) from fault

    def close(self) -> None:
        """Ends the exchange; a body not read to its end costs the connection, so upstream stops."""
        self._exchange.close()


@cache
def client() -> AsyncOpenAI:
    """The process's SDK client. Its key is a stand-in: each account has its own."""
    # No argument says "none" to this one, which could add a header to every call.
    os.environ.pop("OPENAI_CUSTOM_HEADERS", None)
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
    raise RuntimeError("calls go through proxyapi.upstream.transport")


@cache
def transport() -> Transport:
    base_url = str(client().base_url).rstrip("/")
    silence = Silence(settings.FIRST_BYTE_TIMEOUT, settings.IDLE_TIMEOUT)
    return Transport(base_url, connect_timeout=CONNECT_TIMEOUT, silence=silence)


async def close() -> None:
    await transport().close()
    transport.cache_clear()


@lru_cache(maxsize=256)
def account_headers(credentials: Credentials) -> Headers:
    """What the SDK sends with every call on this account."""
    account = client().copy(
        api_key=credentials.api_key, organization=credentials.organization, project=credentials.project
    )
    headers = {**account.default_headers, **account.auth_headers}
    return Headers({name: value for name, value in headers.items() if isinstance(value, str) and value})


async def send(request: UpstreamRequest) -> UpstreamAnswer:
    """Sends `request` and returns upstream's answer, whatever its status.

    Raises:
        UpstreamUnreachable: no connection, or it died before the head of an answer.
        UpstreamTimeout: no connection or no head of an answer in time.
    """
    attempts = 1 + (RETRIES if request.method in SAFE_METHODS and request.upload is None else 0)  # it comes once only
    for attempt in range(1, attempts + 1):
        try:
            answer = await _send_once(request)
            if attempts > 1 and answer.is_text:
                try:
                    await answer.read()  # a body that breaks off is a connection fault too
                except BaseException:  # a border: whatever it is, it is cleaned up and goes on
                    answer.close()
                    raise
            return answer
        except UpstreamUnreachable:
            if attempt == attempts:
                raise
            await asyncio.sleep(RETRY_PAUSE * attempt)
    raise AssertionError("unreachable")


async def _send_once(request: UpstreamRequest) -> UpstreamAnswer:
    headers, body = _head_and_body(request)
    target = f"{request.path}?{request.query}" if request.query else request.path
    try:
        exchange = await transport().open(request.method, target, headers, body, request.deadline)
    except TransportFault as fault:
        raise _failure(fault, request) from fault
    return UpstreamAnswer(exchange, request)


def _head_and_body(request: UpstreamRequest) -> tuple[Headers, Body]:
    credentials = request.credentials
    headers = account_headers(credentials).copy() if request.headers is None else request.headers.copy()
    headers["Authorization"] = f"Bearer {credentials.api_key}"
    if credentials.organization:
        headers.setdefault("OpenAI-Organization", credentials.organization)
    if credentials.project:
        headers.setdefault("OpenAI-Project", credentials.project)
    # The bytes are read on the way; a stream that is compressed arrives late.
    headers["Accept-Encoding"] = "identity"
    if request.upload is not None:
        return headers, request.upload.pieces()
    if request.form:
        encoded = httpx2.Request("POST", client().base_url, files=request.form)
        headers["Content-Type"] = encoded.headers["content-type"]
        headers["Content-Length"] = encoded.headers["content-length"]
        assert isinstance(encoded.stream, httpx2.AsyncByteStream)  # noqa: S101  (a form is one)
        return headers, aiter(encoded.stream)
    if request.method == "GET" and request.headers is None:
        headers.pop("Content-Type", None)
    return headers, request.content


class UnreachableLog:
    """Says in the log why upstream cannot be reached: each reason once a minute, with what the system said."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def say(self, fault: NotConnected) -> None:
        now = time.monotonic()
        if now - self._said_at.get(fault.reason, -math.inf) >= UNREACHABLE_LOG_SECONDS:
            self._said_at[fault.reason] = now
            logger.warning("no connection to upstream: %s (%s)", fault.reason, fault.__cause__ or "no fault")


unreachable_log = UnreachableLog()


def _failure(fault: TransportFault, request: UpstreamRequest) -> ProxyError:
    match fault:
        case ConnectTimeout():
            unreachable_log.say(fault)
            return UpstreamTimeout(f"No connection to upstream in time: {fault.reason}. {NOT_BILLED}")
        case NotConnected():
            unreachable_log.say(fault)
            return UpstreamUnreachable(f"No connection to upstream: {fault.reason}. {NOT_BILLED}")
        case InvalidStatus():
            return UpstreamUnreachable(f"Upstream broke HTTP's rules: {fault}. {MAYBE_BILLED}")
        case Broken():
            return UpstreamUnreachable(f"The connection to upstream broke before an answer. {MAYBE_BILLED}")
        case Silent():
            return UpstreamTimeout(
                f"Upstream did not begin to answer within {fault.seconds:g} seconds ({fault.setting}). {MAYBE_BILLED}"
            )
        case _ if request.upload is not None and not request.upload.complete:
            return RequestTimeout()
        case _:
            return UpstreamTimeout(f"Upstream did not answer in time. {MAYBE_BILLED}")
