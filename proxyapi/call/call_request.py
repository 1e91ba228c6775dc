"""The request of one call: as the handler builds it (`CallRequest`), and as views see it (`ProxyRequest`)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from io import BytesIO
from typing import Any, Protocol, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, QueryDict
from django.utils.functional import cached_property
from rest_framework.request import Request
from uuid_utils import uuid7

from proxyapi.bodies import request_encoding
from proxyapi.call.caller_connection import Receive, Scope, Send, connection_of, root_path_of
from proxyapi.call.held import Held
from proxyapi.call.request_body import SMALL_BODY_BYTES, IncomingBody
from proxyapi.exceptions import ProxyError
from proxyapi.keys.keyring import Caller
from proxyapi.strangers.key_search import KeySearch

NO_QUERY = QueryDict()
INCOMING_ID = re.compile(r"[\x20-\x7e]{1,128}")


class EarlyAnswer(Protocol):
    """An answer whose head may be sent before upstream has answered (`proxyapi.streams.early_stream`)."""

    has_begun: bool

    async def stop(self) -> None:
        """Stops the timer and the comments of the early answer. From then on only the handler sends."""

    def event_of(self, response: HttpResponse) -> bytes:
        """Returns a whole response as the only event of the stream that has begun."""

    def error_event(self, error: ProxyError) -> bytes:
        """Returns an error as an event of the stream that has begun."""


class AnswerTimer(Protocol):
    """The caller's own time limit of a call that may go on beyond it (`proxyapi.dispatch.caller_deadline`)."""

    async def stop(self) -> None:
        """Stops the time limit, and waits until an answer that has begun is sent."""


class CallRequest(ASGIRequest):
    """Django's request, with its body in memory, and with the ids and times of one call.

    `arrived_at` is Unix time; `started` and `received` (the body is complete) are `time.perf_counter()`
    seconds. `raw_path` and `raw_query` are as they came over the wire. `raw_body` is the body as it came, once a
    view has asked for it, and `decoded_body` what it says: decoded, if it came encoded
    (`proxyapi.bodies.request_encoding`). `sender_is_known` once a valid key has been seen.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrived_at = time.time()
        self.started = self.received = time.perf_counter()
        self.request_id = str(uuid7())
        self.raw_path: bytes = scope["raw_path"]
        self.raw_query: bytes = scope["query_string"]
        self.raw_headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        self.decoded_body = self.raw_body = b""
        self.sender_is_known = False
        self.send = send
        self.early_stream: EarlyAnswer | None = None  # if the call may ask for a stream
        self.caller_deadline: AnswerTimer | None = None  # if the caller has set a time limit beyond which it goes on
        self.route = ""  # the name of the route, as the ledger has it
        self.held = Held()
        self.connection = connection_of(scope)
        super().__init__(scope, BytesIO())
        self.incoming_body = IncomingBody(
            receive,
            self.connection,
            is_form=self.is_form,
            announced=self.META.get("CONTENT_LENGTH", ""),
            client_address=self.META.get("REMOTE_ADDR", ""),
        )
        offered = (self.META.get("HTTP_X_REQUEST_ID", ""), self.META.get("HTTP_X_CLIENT_REQUEST_ID", ""))
        self.incoming_request_id: str = next(filter(INCOMING_ID.fullmatch, offered), "")

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]  # the stubs know a plain attribute
        """The query, as Django reads it. Most calls have none, and reading an empty one costs 5 µs."""
        return cast(QueryDict, super().GET) if self.raw_query else NO_QUERY

    @property
    def root_path(self) -> str:
        """The path under which the gateway is served, in front of `path`: empty, or for example `/ai`."""
        return root_path_of(self.scope)

    @property
    def is_form(self) -> bool:
        """True for a multipart request, by its Content-Type."""
        return str(self.META.get("CONTENT_TYPE", "")).lower().startswith("multipart/")

    def body_received(self) -> None:
        """Records the time at which the request's body was complete."""
        self.received = time.perf_counter()

    @property
    def announces_body(self) -> bool:
        """True if the request's head says that a body follows."""
        return self.META.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in self.META

    @property
    def body_can_be_skipped(self) -> bool:
        """True if the connection can be kept although the body is not read: the rest of it is short and sure to come.

        A client that waits for status 100 and gets the answer instead need not send its body (RFC 9110, 10.1.1).
        """
        announced = self.incoming_body.announced
        return announced is not None and announced <= SMALL_BODY_BYTES and "HTTP_EXPECT" not in self.META

    def know_sender(self) -> None:
        """Records that the request has brought a valid key. Request and connection are no longer a stranger's."""
        self.sender_is_known = True
        self.connection.mark_known()

    def leave_body(self) -> None:
        """Leaves the body unread; views see a request without one."""
        self.incoming_body.leave()
        self.META["CONTENT_LENGTH"] = "0"

    async def read_body(self, search: KeySearch | None = None) -> None:
        """Receives the whole body and decodes it. `search` and errors are those of `IncomingBody.read` and `decode`."""
        self.decoded_body = self.raw_body = await self.incoming_body.read(search)
        self.body_received()
        if self.raw_body and "HTTP_CONTENT_ENCODING" in self.META:
            await self._decode_body()
        self._stream = BytesIO(self.decoded_body)
        self.META["CONTENT_LENGTH"] = str(len(self.decoded_body))  # a chunked body has none of its own

    async def _decode_body(self) -> None:
        """Sets `decoded_body` by the request's Content-Encoding."""
        if encoding := request_encoding.encoding_of(self.META):
            try:
                self.decoded_body = await request_encoding.decode(self.raw_body, encoding, self.incoming_body.limit)
            except request_encoding.TooLarge:
                raise self.incoming_body.too_large("The request body, decoded,") from None


class ProxyRequest(Request):
    """DRF's request around a `CallRequest`."""

    _request: CallRequest

    @property
    def data(self) -> Any:
        """The parsed body: a JSON object or a form."""
        return super().data

    @property
    def caller(self) -> Caller:
        """The caller whose key the request has. DRF calls it the user."""
        caller: Caller = self.user  # type: ignore[assignment]  # DRF types it as a Django user
        return caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self.user = caller  # type: ignore[assignment]  # DRF types it as a Django user

    @property
    def call_request(self) -> CallRequest:
        """The handler's request."""
        return self._request
