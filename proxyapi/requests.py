"""Owns the request of one call, as the handler builds it and as a view sees it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from django.core.handlers.asgi import ASGIRequest
from rest_framework.request import Request
from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from proxyapi.exceptions import ProxyError
    from proxyapi.keyring import Caller

INCOMING_ID = re.compile(r"[\x20-\x7e]{1,128}")


class CallRequest(ASGIRequest):
    """Django's request, its body in memory, with the ids and the clock readings of one call.

    `arrived_at` is Unix time; `started` and `received` (the body is complete) are
    `time.perf_counter()` seconds. `refusal` is an error found before the view could run.
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.arrived_at = time.time()
        self.started = self.received = time.perf_counter()
        self.request_id = uuid7()
        self.refusal: ProxyError | None = None
        self.raw_body = b""
        self.place = ExitStack()  # what the call occupies until its answer has been sent
        super().__init__(scope, BytesIO())
        offered = (self.META.get("HTTP_X_REQUEST_ID", ""), self.META.get("HTTP_X_CLIENT_REQUEST_ID", ""))
        self.incoming_request_id: str = next(filter(INCOMING_ID.fullmatch, offered), "")

    def set_body(self, body: bytes) -> None:
        self.received = time.perf_counter()
        self.raw_body = body
        self._stream = BytesIO(body)
        self.META["CONTENT_LENGTH"] = str(len(body))  # a chunked body has none of its own


class ProxyRequest(Request):
    """DRF's request around a `CallRequest`. `data` is a JSON object or a form."""

    _request: CallRequest

    @property
    def data(self) -> Any:
        return super().data

    @property
    def caller(self) -> Caller:
        """Whose key it is; DRF calls it the user."""
        return cast("Caller", self.user)

    @property
    def call_request(self) -> CallRequest:
        return self._request
