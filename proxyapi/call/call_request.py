"""The request objects of one call: `CallRequest` is made by the ASGI handler, `ProxyRequest` wraps it for views."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, QueryDict
from django.utils.functional import cached_property
from rest_framework.request import Request
from uuid_utils import uuid7

from proxyapi.bodies import request_encoding
from proxyapi.call.call_resources import CallResources
from proxyapi.call.caller_connection import Receive, Scope, Send, connection_of, root_path_of
from proxyapi.call.request_body import SMALL_BODY_BYTES, IncomingBody
from proxyapi.exceptions import ProxyError
from proxyapi.keys.callers import Caller
from proxyapi.unauthenticated.key_search import KeySearch

NO_QUERY = QueryDict()
UNDERSCORE = ord("_")  # a number is found in bytes much faster than other bytes are
INCOMING_ID = re.compile(r"[\x20-\x7e]{1,128}")


def meta_name(header: bytes) -> str:
    """Converts a header's name to its key in Django's `META`: `x-request-id` becomes `HTTP_X_REQUEST_ID`.

    `header` is in lower case.
    """
    name = header.decode("latin-1").upper().replace("-", "_")
    return name if name in {"CONTENT_LENGTH", "CONTENT_TYPE"} else f"HTTP_{name}"


# Made once, of the headers that most requests have.
META_NAMES = {
    header: meta_name(header)
    for header in (
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"connection", b"content-length",
        b"content-type", b"host", b"openai-organization", b"openai-project", b"user-agent", b"x-request-id",
        b"x-security-key", b"x-stainless-arch", b"x-stainless-async", b"x-stainless-lang", b"x-stainless-os",
        b"x-stainless-package-version", b"x-stainless-read-timeout", b"x-stainless-retry-count", b"x-stainless-runtime",
        b"x-stainless-runtime-version",
    )
}  # fmt: skip


class EarlyAnswer(Protocol):
    """Interface of an event stream that begins before upstream has answered, so that proxies keep the connection open.

    `has_begun` is true once the head of the stream has been sent. `proxyapi.streams.early_stream` implements this
    interface.
    """

    has_begun: bool

    async def stop(self) -> None:
        """Stops the early stream: its keep-alive comments end, and a stream that has not begun never begins.

        From then on, only the call's handler sends to the caller.
        """

    def event_of(self, response: HttpResponse) -> bytes:
        """Converts a whole response to one server-sent event, for a caller who has already got the head of a stream."""

    def error_event(self, error: ProxyError) -> bytes:
        """Converts a gateway error to one server-sent event, for a caller who has already got the head of a stream."""


class AnswerTimer(Protocol):
    """Interface of the timer for a time limit that the caller has set for its call.

    When the time is over, the caller gets status 504, and the call goes on upstream until its usage is known.
    `proxyapi.dispatch.caller_deadline` implements this interface.
    """

    async def stop(self) -> None:
        """Stops the timer of the caller's time limit; waits if the answer with status 504 is just being sent."""


class CallRequest(ASGIRequest):
    """Django's request object for one call of the API, with the call's body, ids and times.

    * `arrived_at`: when the call arrived, in Unix time.
    * `started`: the same moment, in seconds of `time.perf_counter()`.
    * `received`: when the whole body had arrived, in seconds of `time.perf_counter()`.
    * `raw_path`, `raw_query`: the path and the query as bytes, as they were sent.
    * `raw_body`: the body as it was sent; `decoded_body`: the body without its Content-Encoding. Both are empty until a
      view has asked for the body.
    * `sender_is_known`: true once a valid key has been found in the request.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrived_at = time.time()
        self.started = self.received = time.perf_counter()
        self.request_id = str(uuid7())
        self.raw_path: bytes = scope["raw_path"]
        self.raw_query: bytes = scope["query_string"]
        self.raw_headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        self.decoded_body = self.raw_body = b""
        self.sender_is_known = False
        self.send = send
        self.early_stream: EarlyAnswer | None = None  # set only if the call may ask for a stream
        self.caller_deadline: AnswerTimer | None = None  # if the caller has set a time limit beyond which it goes on
        self.route = ""  # the name of the route, as the ledger has it
        self.resources = CallResources()
        self.connection = connection_of(scope)
        self._read_head(scope)
        self.incoming_body = IncomingBody(
            receive,
            self.connection,
            is_form=self.is_form,
            announced=self.META.get("CONTENT_LENGTH", ""),
            client_address=self.META.get("REMOTE_ADDR", ""),
        )
        offered = (self.META.get("HTTP_X_REQUEST_ID", ""), self.META.get("HTTP_X_CLIENT_REQUEST_ID", ""))
        self.incoming_request_id: str = next(filter(INCOMING_ID.fullmatch, offered), "")

    def _read_head(self, scope: Scope) -> None:
        """Sets the same attributes as the constructor of Django's request, but faster."""
        # In half as many bytecodes. If a header is given twice, Django's constructor does the work (below).
        # `tests/proxyapi/call/test_call_request.py` checks that both ways set the same attributes.
        self.scope = scope
        self.method = scope["method"].upper()
        self.path = self.path_info = scope["path"]
        self.script_name = ""
        self.resolver_match = None
        self._post_parse_error = self._read_started = False
        self._stream = BytesIO()
        meta = self.META = {
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": self.raw_query.decode(),
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
        }
        if client := scope["client"]:
            meta |= {"REMOTE_ADDR": client[0], "REMOTE_HOST": client[0], "REMOTE_PORT": client[1]}
        name, port = scope["server"] or ("unknown", 0)
        meta |= {"SERVER_NAME": name, "SERVER_PORT": str(port)}
        for header, value in self.raw_headers:
            if UNDERSCORE in header:
                continue  # could be taken for the same name with a hyphen
            key = META_NAMES.get(header) or meta_name(header)
            if key in meta:
                super().__init__(scope, BytesIO())
                return
            meta[key] = value.decode("latin-1")
        self._set_content_type_params(meta)  # type: ignore[attr-defined]  # the type stubs lack it

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]  # in Django's type stubs it is a plain attribute
        """The parameters of the request's query string, as in any Django request."""
        # Most calls have no query, and share one empty object: parsing an empty query costs 5 µs.
        return cast(QueryDict, super().GET) if self.raw_query else NO_QUERY

    @property
    def root_path(self) -> str:
        """The path prefix under which clients reach the gateway, such as `/ai`; empty if there is none."""
        return root_path_of(self.scope)

    @property
    def is_form(self) -> bool:
        """True if the request's Content-Type says that its body is a multipart form."""
        return str(self.META.get("CONTENT_TYPE", "")).lower().startswith("multipart/")

    def mark_body_received(self) -> None:
        """Records that the whole body of the request has arrived now."""
        self.received = time.perf_counter()

    @property
    def announces_body(self) -> bool:
        """True if the request's headers say that a body follows."""
        return self.META.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in self.META

    @property
    def body_can_be_skipped(self) -> bool:
        """True if the request's body is so short that it may stay unread while the connection stays open.

        False if the body's length is unknown, or if the client waits for an answer to `Expect: 100-continue` before it
        sends the body.
        """
        # A client that waits for status 100 need not send the body once it has the answer (RFC 9110, 10.1.1).
        announced = self.incoming_body.announced
        return announced is not None and announced <= SMALL_BODY_BYTES and "HTTP_EXPECT" not in self.META

    def mark_sender_known(self) -> None:
        """Records that the request has a valid key, so that the limits for senders without a key end.

        They end for this request and for all later ones on its connection.
        """
        self.sender_is_known = True
        self.connection.mark_known()

    def leave_body(self) -> None:
        """Leaves the request's body unread: sets Content-Length to 0, so that views see a request without a body."""
        self.incoming_body.leave()
        self.META["CONTENT_LENGTH"] = "0"

    async def read_body(self, search: KeySearch | None = None) -> None:
        """Receives the request's whole body; sets `raw_body` (as sent) and `decoded_body` (without Content-Encoding).

        Views then read the decoded body, and Content-Length is set to its size. `search` looks for a valid key while
        the body arrives.

        Raises:
            InvalidKey: `search` was given and has found no valid key in the whole body.
            BodyTooLarge: the body, as sent or decoded, is over the size limit.
            UnsupportedMediaType: the Content-Encoding is not supported.
            BadRequest: the body is not valid data of its Content-Encoding.
            RequestTimeout, ShuttingDown, TooManyStrangers, CallerGone: as in `IncomingBody.read`.
        """
        self.decoded_body = self.raw_body = await self.incoming_body.read(search)
        self.mark_body_received()
        if self.raw_body and "HTTP_CONTENT_ENCODING" in self.META:
            await self._decode_body()
        self._stream = BytesIO(self.decoded_body)
        self.META["CONTENT_LENGTH"] = str(len(self.decoded_body))  # a chunked body came without this header

    async def _decode_body(self) -> None:
        """Decodes `raw_body` from its Content-Encoding, and stores the result in `decoded_body`.

        Raises:
            BodyTooLarge: the decoded body is over the size limit.
            UnsupportedMediaType: the encoding is not supported.
            BadRequest: the body is not valid data of its encoding.
        """
        if encoding := request_encoding.encoding_of(self.META):
            try:
                self.decoded_body = await request_encoding.decode(self.raw_body, encoding, self.incoming_body.limit)
            except request_encoding.TooLarge:
                raise self.incoming_body.too_large("The request body, decoded,") from None


class ProxyRequest(Request):
    """Request object of Django REST framework for the views of the API; wraps a `CallRequest`.

    `caller` has the facts about the request's key, once the key has been checked.
    """

    _request: CallRequest
    caller: Caller

    @cached_property
    def data(self) -> Any:
        """The request's parsed body: a JSON object or, after the view has stored them here, a form's text fields."""
        content_type, body = self._request.META.get("CONTENT_TYPE"), self._request.decoded_body
        # JSON, which nearly every body is, is parsed here: letting DRF choose a parser takes a twentieth of a call's
        # time.
        for parser in self.parsers or ():
            if body and parser.media_type == content_type == "application/json":
                return parser.parse(BytesIO(body))
        return super().data

    @property
    def call_request(self) -> CallRequest:
        """The `CallRequest` inside this request object, with the call's body, ids and times."""
        return self._request
