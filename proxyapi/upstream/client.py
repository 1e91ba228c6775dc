"""Sends requests to upstream, each with the credentials of the account that pays for it.

The official SDK supplies the base URL and the headers of a client (`sdk`), once for all processes of a host;
`transport` sends and receives the bytes. (The SDK itself takes four times as much CPU for a call, and would parse
bodies that must pass unchanged.)

Invariants: one pool of connections per process; the host never comes from a caller; a call that creates something is
sent once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from proxyapi.exceptions import (
    UpstreamUnreachable,
)
from proxyapi.keys.private_file import write_private
from proxyapi.upstream import self_calls
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.exchange import Body, SilenceLimits
from proxyapi.upstream.fault_answers import error_of
from proxyapi.upstream.faults import TransportFault
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.request import UpstreamRequest
from proxyapi.upstream.transport import Transport

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
CONNECT_TIMEOUT = 5.0  # seconds
SDK_FILE = "sdk.json"  # in DATA_DIR: what the SDK has answered
SDK_SECONDS = 60.0  # a worker that waits for the SDK sends heartbeats, so nobody else would end its wait
SAFE_METHODS = {"GET", "DELETE"}
RETRIES = 2
RETRY_PAUSE = 0.1  # seconds, times the number of attempts


class SDKClient(NamedTuple):
    """The base URL and the headers that the OpenAI SDK uses for its requests, except those that name an account."""

    base_url: str
    headers: Headers


@cache
def sdk_client() -> SDKClient:
    """Returns the base URL and the headers that the OpenAI SDK uses for its requests.

    They are read from `SDK_FILE` if that was written for the same versions, system and upstream address. Otherwise the
    SDK is asked, which takes half a second of CPU, and its answer is stored in the file for later processes.

    Raises:
        subprocess.CalledProcessError: the SDK cannot be asked. The reason is in this process's standard error.
        subprocess.TimeoutExpired: the SDK has not answered within `SDK_SECONDS`, and its process was killed.
    """
    file, versions = Path(settings.DATA_DIR) / SDK_FILE, _versions()
    found = _kept_answer(file, versions)
    if found is None:
        found = _ask_sdk()
        with suppress(OSError):  # on a full disk, for example: then the next process asks again
            answer = {"base_url": found.base_url, "headers": dict(found.headers)}
            write_private(file, json.dumps({"versions": versions, **answer}))
    return found


def _versions() -> dict[str, str]:
    """Returns, by name, the facts on which the SDK's answer depends; if one has changed, the SDK must be asked again.

    They are upstream's URL, a digest of the module `sdk` with the question, and the versions of packages, Python and
    system.
    """
    return {
        "address": settings.OPENAI_BASE_URL,
        "question": hashlib.sha256(Path(__file__).with_name("sdk.py").read_bytes()).hexdigest(),
        **{name: metadata.version(name) for name in ("openai", "httpx2")},
        "python": f"{sys.implementation.name} {sys.version}",
        "system": f"{sys.platform} {os.uname().machine}",
    }


def _kept_answer(file: Path, versions: Mapping[str, str]) -> SDKClient | None:
    """Returns the OpenAI SDK's base URL and headers from `file`; None if the file is missing, damaged or outdated.

    It is outdated if its versions differ from `versions`.
    """
    try:
        kept = json.loads(file.read_bytes())
        if kept["versions"] == versions:
            return SDKClient(kept["base_url"], Headers(kept["headers"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is no such file, or somebody has changed it: the SDK is asked
    return None


def _ask_sdk() -> SDKClient:
    """Asks the OpenAI SDK for its base URL and its headers, in a short-lived process.

    Raises the errors of `sdk_client`.
    """
    command = [sys.executable, "-m", "proxyapi.upstream.sdk", settings.OPENAI_BASE_URL]
    printed = subprocess.run(  # noqa: S603  (no shell)
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=SDK_SECONDS
    ).stdout
    found = json.loads(printed)
    return SDKClient(found["base_url"], Headers(found["headers"]))


@cache
def transport() -> Transport:
    """Returns the pool of connections to upstream; each process has one."""
    silence = SilenceLimits(settings.FIRST_BYTE_TIMEOUT, settings.IDLE_TIMEOUT)
    return Transport(sdk_client().base_url.rstrip("/"), connect_timeout=CONNECT_TIMEOUT, silence=silence)


def prepare() -> None:
    """Asks the OpenAI SDK for its headers, makes the pool of connections to upstream, and reads the TLS certificates.

    Call this in a thread before the first request. Otherwise the first request would wait for it. Raises the errors of
    `sdk_client`.
    """
    sdk_client()
    transport().prepare()


async def close() -> None:
    """Closes all connections of this process to upstream."""
    await transport().close()
    transport.cache_clear()


async def send(request: UpstreamRequest) -> UpstreamAnswer:
    """Sends a request to upstream, and returns the answer as soon as its head has arrived, whatever its status.

    A GET or DELETE is repeated up to `RETRIES` times if the connection fails; its answer is read whole if it is text.

    Raises:
        UpstreamUnreachable: no connection could be opened, or it broke before the answer was here.
        UpstreamTimeout: no connection was opened, or no answer arrived, in time.
        OutOfFiles: no connection could be opened, because the system allows no more open files.
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

    Raises `UpstreamUnreachable`, `UpstreamTimeout`, `OutOfFiles` or `RequestTimeout`, as `send` does.
    """
    headers, body = _head_and_body(request)
    target = f"{request.path}?{request.query}" if request.query else request.path
    try:
        exchange = await transport().open(request.method, target, headers, body, request.deadline)
    except TransportFault as fault:
        raise error_of(fault, request) from fault
    return UpstreamAnswer(exchange, request)


def _head_and_body(request: UpstreamRequest) -> tuple[Headers, Body]:
    """Builds the headers, with the credentials of the account that pays, and the body of a request to upstream."""
    credentials = request.credentials
    headers = (sdk_client().headers if request.headers is None else request.headers).copy()
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
