"""The answer to a request whose head is invalid on every path; it is sent before any key is checked."""

from __future__ import annotations

import json

from asgiref.typing import HTTPScope

from proxyapi.call.caller_connection import Send, close_if_unread, connection_of
from proxyapi.exceptions import BadRequest
from proxyapi.unauthenticated.answer_pace import stranger_pace
from proxyapi.upstream.passed_headers import INERT
from usage.metric_counters import counters


async def refuse_head(scope: HTTPScope, send: Send, words: str) -> None:
    """Answers a request that has invalid headers with status 400 and the message `words`, and closes the connection.

    The refusal is counted. If the client causes many refusals, the answer is delayed. Bytes of the body that have not
    arrived yet are not read.
    """
    counters.count_refusal(BadRequest.code)
    close_if_unread(connection_of(scope))
    client = scope.get("client")
    await stranger_pace.wait(client[0] if client else "")
    body = json.dumps(BadRequest(words).body(None)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *INERT,
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
