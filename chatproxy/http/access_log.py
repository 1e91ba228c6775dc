"""The access log: a line in the log for each request, without its query, if the setting ACCESS_LOG is on.

If the setting is off, none of this code runs: a worker then serves the application and `Protocol` as they are.

A request whose head cannot be read, or whose connection is refused, reaches no application. It gets no line, and is
only counted in `chatproxy_refused_total`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any, cast

from chatproxy.http.protocol import Protocol
from chatproxy.logs import redacted_path
from proxyapi.call.caller_connection import Receive, Scope, Send

OpenScope = MutableMapping[str, object]  # a request's ASGI scope, to which something is added

logger = logging.getLogger(__name__)

STATUS, REQUEST_ID = "chatproxy.status", "chatproxy.request_id"  # in the scope of a request
ID_HEADER = "x-proxy-request-id"
_ID_LINE = re.compile(rb"^%b: ([0-9a-f-]+)\r$" % ID_HEADER.encode(), re.IGNORECASE | re.MULTILINE)


class LoggedProtocol(Protocol):
    """A client connection that remembers the status of each answer for `AccessLog`, in the request's ASGI scope."""

    def send_whole(self, status: int, lines: bytes, body: bytes) -> bool:
        """Sends a whole answer, and stores its status and the request's id for the access log; returns True.

        Returns False, and stores nothing, if uvicorn must send the answer.
        """
        running = self._running  # the next request may have begun when the answer is sent
        is_sent = super().send_whole(status, lines, body)
        if is_sent and running is not None:
            found = _ID_LINE.search(lines)
            _note(cast(OpenScope, running.scope), status, found[1].decode() if found else "")
        return is_sent


class AccessLog:
    """ASGI application that wraps another one, and logs a line for each HTTP request, answered or not."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: OpenScope, receive: Receive, send: Send) -> None:
        """Passes a request on to the wrapped application; logs a line when the application has ended or failed.

        An ASGI scope that is no HTTP request (`lifespan`) is only passed on.
        """
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def noting_send(message: Scope) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                _note(scope, message["status"], headers.get(ID_HEADER.encode(), b"").decode())
            await send(message)

        begun = time.monotonic()
        try:
            await self._application(scope, receive, noting_send)
        finally:
            _log(scope, time.monotonic() - begun)


def _note(scope: OpenScope, status: int, request_id: str) -> None:
    """Stores the status of an answer, and the request's id, in the request's ASGI scope."""
    scope[STATUS], scope[REQUEST_ID] = status, request_id


def _log(scope: Scope, seconds: float) -> None:
    """Logs one request: method, path without query, status, milliseconds and client address.

    A missing status (no answer) and an unknown address are logged as `-`, a segment of the path that may be a secret as
    `…`.
    """
    address = scope["client"][0] if scope.get("client") else "-"
    logger.info(
        "%s %s %s %.1f ms %s",
        scope["method"],
        redacted_path(scope["path"]),
        scope.get(STATUS, "-"),
        seconds * 1000,
        address,
        extra={"request_id": scope.get(REQUEST_ID, "")},
    )
