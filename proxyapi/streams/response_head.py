"""Owns the head of every answer to a call: the response's headers, and those that each answer has."""

from __future__ import annotations

from typing import Any

from django.http.response import HttpResponseBase

from proxyapi.call.call_request import CallRequest
from proxyapi.upstream.passed_headers import INERT

Head = dict[str, Any]


def head_of(request: CallRequest, response: HttpResponseBase) -> Head:
    """The ASGI message that begins the answer."""
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    if not response.has_header("vary"):
        headers.append((b"vary", b"origin"))  # as the middleware says, which only sees calls that have one
    if not response.has_header("content-security-policy"):  # a page of ours has its own
        headers.extend(INERT)
    headers.append((b"x-proxy-request-id", request.request_id.encode()))
    if request.incoming_request_id:
        headers.append((b"x-incoming-request-id", request.incoming_request_id.encode()))
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
