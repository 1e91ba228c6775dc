"""Makes the head of every answer to a call: the response's own headers, and those that all answers have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

from django.http import HttpResponse, SimpleCookie
from django.http.response import HttpResponseBase, ResponseHeaders

from proxyapi.call.call_request import CallRequest
from proxyapi.upstream.passed_headers import INERT

HeaderFields = list[tuple[str, str]]  # names and values of headers
_INERT = [(name.decode(), value.decode()) for name, value in INERT]


class Head(TypedDict):
    """The ASGI message that begins an answer: its status and its headers."""

    type: str
    status: int
    headers: list[tuple[bytes, bytes]]


def set_passed_headers(response: HttpResponseBase, headers: Mapping[str, str]) -> None:
    """Replaces all headers of a Django response by `headers`, which come from upstream's answer.

    Their names must be in lower case, and their values checked by `passed_headers.pass_down`.
    """
    # The private store in which Django keeps headers: Django would check and encode each header once more, which takes
    # 9 µs for eight headers. `tests/proxyapi/streams/test_response_head.py` fails if Django keeps them in another way.
    response.headers._store = dict(zip(headers, headers.items(), strict=True))


class PassedAnswer(HttpResponse):
    """A Django response with upstream's status, headers and whole body, and with upstream's Content-Type, if any."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        # Django's constructor is not called: most of what it does is for pages.
        # `tests/proxyapi/streams/test_response_head.py` fails if Django's constructor sets other attributes.
        self.status_code = status
        self.headers = ResponseHeaders({})
        set_passed_headers(self, headers)
        self.cookies = SimpleCookie()
        self.closed = False
        self._container = [body]
        self._charset = self._reason_phrase = self._handler_class = None
        self._resource_closers: list[Callable[[], object]] = []


def fields_of(request: CallRequest, response: HttpResponseBase) -> HeaderFields:
    """Returns the headers of the answer to a call, as pairs of name (in lower case) and value.

    The result has the headers of `response`, and the headers that every answer has, such as `x-proxy-request-id`.
    """
    stored = response.headers._store  # {"vary": ("Vary", "origin")}; reading `items()` takes 15 times as long
    fields = [(name, value) for name, (_, value) in stored.items()]
    if "vary" not in stored:
        fields.append(("vary", "origin"))  # the CORS middleware adds it to calls with an Origin only
    if "content-security-policy" not in stored:  # a page of the gateway's has its own
        fields += _INERT
    fields.append(("x-proxy-request-id", request.request_id))
    if request.incoming_request_id:
        fields.append(("x-incoming-request-id", request.incoming_request_id))
    return fields


def lines_of(fields: HeaderFields) -> bytes:
    """Converts headers, given as pairs of name and value, to header lines of HTTP/1.1.

    Raises:
        ValueError: a header has a line break or a zero byte in it.
    """
    lines = "\r\n".join([*map(": ".join, fields), ""])
    if lines.count("\r") != len(fields) or lines.count("\n") != len(fields) or "\0" in lines:
        raise ValueError("a header has a line break in it")
    return lines.encode("latin-1")


def head_of(request: CallRequest, response: HttpResponseBase) -> Head:
    """Returns the ASGI message that begins the answer to `request`: the status and headers of `response`.

    Adds the headers that every answer has, such as `x-proxy-request-id`.
    """
    return message_of(response.status_code, fields_of(request, response))


def message_of(status: int, fields: HeaderFields) -> Head:
    """Builds the ASGI message that begins an answer, from its status and headers."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
    return {"type": "http.response.start", "status": status, "headers": headers}
