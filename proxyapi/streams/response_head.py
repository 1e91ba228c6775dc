"""Makes the head of every answer to a call: the response's own headers, and those that each answer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from django.http.response import HttpResponseBase

from proxyapi.call.call_request import CallRequest
from proxyapi.upstream.passed_headers import INERT


class Head(TypedDict):
    """The ASGI message that begins an answer: its status and its headers."""

    type: str
    status: int
    headers: list[tuple[bytes, bytes]]


def set_passed_headers(response: HttpResponseBase, headers: Mapping[str, str]) -> None:
    """Replaces all headers of a Django response by `headers`, those of upstream's answer.

    Names are in lower case, and `passed_headers.pass_down` has checked the values. Django would check and encode each
    of them once more, which takes 9 µs for eight, so its private store is set:
    `tests/proxyapi/streams/test_response_head.py` fails if Django keeps headers in another way.
    """
    response.headers._store = {name: (name, value) for name, value in headers.items()}


def head_of(request: CallRequest, response: HttpResponseBase) -> Head:
    """Returns the ASGI message that begins an answer: the headers of `response`, and those that every answer has."""
    stored = response.headers._store  # {"vary": ("Vary", "origin")}; reading `items()` takes 15 times as long
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, (_, value) in stored.items()]
    if "vary" not in stored:
        headers.append((b"vary", b"origin"))  # the CORS middleware adds it to calls with an Origin only
    if "content-security-policy" not in stored:  # a page of the gateway's has its own
        headers.extend(INERT)
    headers.append((b"x-proxy-request-id", request.request_id.encode()))
    if request.incoming_request_id:
        headers.append((b"x-incoming-request-id", request.incoming_request_id.encode()))
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
