"""Owns what every endpoint does: parse, authenticate, throttle, handle, answer errors.

The order of a call, for `CallView`: body parsed → key checked → view's own checks → `Call.begin`
→ upstream → answer read or relayed → `Call.end`, before the last byte leaves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi import upstream
from proxyapi.authentication import SecurityKeyAuthentication
from proxyapi.calls import Call
from proxyapi.capacity import capacity
from proxyapi.exceptions import MethodNotAllowed, ProxyError, RateLimited, from_framework, render
from proxyapi.handler import CallRequest
from proxyapi.parsers import JSONObjectParser
from proxyapi.relay import Dialect, Relay, RelayResponse
from proxyapi.upstream import UpstreamRequest
from usage.models import Outcome

logger = logging.getLogger(__name__)


class ProxyView(APIView):
    """DRF's view with an async `dispatch`: the same policies, no thread, no negotiation."""

    parser_classes = (JSONObjectParser,)
    # Whether a request of this view counts against MAX_PARALLEL_REQUESTS.
    takes_capacity: ClassVar[bool] = False

    async def dispatch(self, request: CallRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]  # async, as Django allows
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        try:
            return await self._handle(self.request, request, **kwargs)
        except asyncio.CancelledError:
            self.abandoned()
            raise
        except Exception as fault:  # the border: whatever went wrong becomes an answer
            error = from_framework(fault)
            if error.status_code == 500:
                logger.exception("a view failed", extra={"request_id": str(request.request_id)})
            self.refused(error)
            return render(error, request)

    async def _handle(self, request: Request, call_request: CallRequest, **kwargs: Any) -> HttpResponseBase:
        if call_request.refusal is not None:
            raise call_request.refusal
        method = (request.method or "").lower()
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if method == "options":
            return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})
        if handler is None:
            raise MethodNotAllowed(self.allowed_methods)
        await self.parse(request)
        self.perform_authentication(request)
        self.authenticated(request)
        self.check_permissions(request)
        self.check_throttles(request)
        return await handler(request, **kwargs)

    async def parse(self, request: Request) -> None:
        """Reads the body into `request.data`."""
        request.data  # noqa: B018  (reading it parses)

    def authenticated(self, request: Request) -> None:
        """The key is good."""

    def refused(self, error: ProxyError) -> None:
        """The request gets an error of ours."""

    def abandoned(self) -> None:
        """The caller left before there was an answer."""

    def throttled(self, request: Request, wait: float | None) -> None:
        seconds = int(wait or 1)
        raise RateLimited(f"Once in ten seconds; try again in {seconds} s.", retry_after=seconds)


class CallView(ProxyView):
    """A view whose requests go upstream and into the ledger."""

    authentication_classes = (SecurityKeyAuthentication,)
    takes_capacity = True
    route: ClassVar[str]
    call: Call | None = None

    def authenticated(self, request: Request) -> None:
        self.call = Call(request._request, route=self.route, key_name=request.user.name)

    def refused(self, error: ProxyError) -> None:
        if self.call is not None:
            self.call.fail(error, status=error.status_code)

    def abandoned(self) -> None:
        if self.call is not None:
            self.call.end(Outcome.CLIENT_CANCELLED, None)

    async def forward(self, request: UpstreamRequest, dialect: Dialect | None = None) -> HttpResponseBase:
        """Sends `request` upstream and answers with what comes back, unchanged.

        With a `dialect` a stream of events is relayed as it arrives; everything else is read
        whole first.
        """
        call = self.call
        assert call is not None  # noqa: S101  (`authenticated` made it)
        capacity.check_open()
        call.begin()
        answer = await upstream.send(request)
        call.answered(answer)
        if dialect is not None and answer.content_type.startswith("text/event-stream"):
            return RelayResponse(Relay(call, answer, dialect), status=answer.status, headers=answer.passed_headers())
        try:
            body = await answer.read()
        finally:
            await answer.aclose()
        call.upstream_ended()
        call.relayed(len(body))
        call.answer.read_body(body)
        call.end(Outcome.UPSTREAM_ERROR if answer.status >= 400 else Outcome.SUCCESS, answer.status)
        response = HttpResponse(body, status=answer.status)
        del response["content-type"]
        for name, value in answer.passed_headers():
            response[name] = value
        return response
