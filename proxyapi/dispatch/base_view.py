"""The base class of all views of the gateway: admits a request, calls its handler, and answers errors.

`proxyapi.dispatch.call_view` is the view of the endpoints that go upstream.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import ClassVar, cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi.bodies import large_bodies, request_encoding
from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.call.parsers import JSONObjectParser
from proxyapi.call.request_body import SMALL_BODY_BYTES
from proxyapi.dispatch.authentication import caller_without_body, names_another_key
from proxyapi.dispatch.throttling import Throttle
from proxyapi.exceptions import (
    CallerGone,
    InternalError,
    InvalidKey,
    MethodNotAllowed,
    ProxyError,
    UnsupportedMediaType,
    from_framework,
    render,
)
from proxyapi.keys.callers import Caller
from proxyapi.unauthenticated.key_search import KeySearch
from proxyapi.unauthenticated.wrong_key_pace import refusal_pace
from usage.metric_counters import counters
from usage.models import Outcome

logger = logging.getLogger(__name__)

NEGOTIATOR = DefaultContentNegotiation()  # chooses parsers; has no state, so all requests share it


class BodyUse(Enum):
    """How much of a request's body a view reads: nothing, only a small body, or all."""

    NONE = auto()  # nothing: the view answers as if there were no body
    SMALL = auto()  # at most `SMALL_BODY_BYTES`, since nothing but the key is expected in it
    WHOLE = auto()  # at most MAX_BODY_BYTES; MAX_UPLOAD_BYTES of a form


class ProxyView(APIView):
    """Base class of all views of the gateway: an `APIView` of Django REST framework whose `dispatch` is async.

    Authentication, permissions and throttles work as in Django REST framework. There is no content negotiation.
    """

    parser_classes: tuple[type[BaseParser], ...] = (JSONObjectParser,)
    authentication_classes: tuple[type[BaseAuthentication], ...] = ()
    # A view parses the body that it reads, so the sender must have shown a valid key before: see `receive_body`.
    body_use: ClassVar[BodyUse] = BodyUse.NONE
    # Whether a request to this view counts against MAX_PARALLEL_REQUESTS.
    takes_capacity: ClassVar[bool] = False

    def initialize_request(self, request: HttpRequest, *args: object, **kwargs: object) -> ProxyRequest:
        """Wraps Django's request in a `ProxyRequest` for the view."""
        return ProxyRequest(
            request,
            parsers=self.get_parsers(),
            negotiator=NEGOTIATOR,
            parser_context=self.get_parser_context(request),
        )

    async def dispatch(self, request: CallRequest, *args: object, **kwargs: object) -> HttpResponseBase:  # type: ignore[override]  # async, as Django allows
        """Answers a request: returns the view's response, or the response for an error that was raised.

        Raises:
            CallerGone, asyncio.CancelledError: the caller has left, so there is no response.
        """
        self.args, self.kwargs = args, kwargs
        self.request = proxy_request = self.initialize_request(request, *args, **kwargs)
        try:
            return await self._handle(proxy_request, **kwargs)
        except (asyncio.CancelledError, CallerGone):
            self.on_departure()
            raise
        except Exception as fault:  # the border: whatever went wrong becomes an answer
            return await self._refusal(fault, request)
        finally:
            # Breaks reference cycles of DRF's and Django's, which would keep the body alive until a garbage collection.
            proxy_request.parser_context.clear()
            vars(self).pop("head", None)

    async def _refusal(self, fault: Exception, request: CallRequest) -> HttpResponse:
        """Builds the response for an error that was raised while a request was handled.

        Logs an internal error, counts a refusal, and calls the hooks `before_error` and `on_error`. If the sender's
        network has sent too many wrong keys, the response has status 429 instead.
        """
        # A method of its own: holding the exception in `dispatch`'s frame would form a reference cycle and keep the
        # request body alive until a garbage collection.
        error = from_framework(fault)
        if isinstance(error, InternalError):
            logger.error("a view failed", exc_info=fault, extra={"request_id": request.request_id})
        elif isinstance(error, InvalidKey):
            error = refusal_pace.refuse(error, request.META.get("REMOTE_ADDR", ""))
        if error.outcome == Outcome.REJECTED:
            counters.count_refusal(error.code)
        try:
            await self.before_error()
        finally:
            self.on_error(error)
        return render(error, request)

    async def _handle(self, request: ProxyRequest, **kwargs: object) -> HttpResponseBase:
        """Checks a request, runs the view's method for it (`get`, `post`, …), and returns the response.

        A request with the method OPTIONS needs no key; its response lists the allowed methods.

        Raises:
            MethodNotAllowed: the view has no method for this request.

        The errors of `admit` and of the view's method are raised, too.
        """
        method = (request.call_request.method or "").lower()
        if method == "options":
            return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if handler is None:
            raise MethodNotAllowed(self.allowed_methods)
        await self.admit(request)
        response: HttpResponseBase = await handler(request, **kwargs)
        return response

    async def admit(self, request: ProxyRequest) -> None:
        """Checks a request's key, counts the request against its limits, and receives the body if the view reads it.

        Raises a `ProxyError`: for example `InvalidKey`, `RateLimited`, or `Overloaded` if too many calls are in flight.
        """
        if self.takes_capacity:
            capacity.check_room()  # before the body is received; the slot is taken later, with a valid key
        if self.body_use is BodyUse.NONE:
            request.call_request.leave_body()
            await self.authorize(request)
        else:
            await self.receive_body(request)

    async def receive_body(self, request: ProxyRequest) -> None:
        """Receives and parses the request's body; checks the request's key, and counts the request against its limits.

        The key may be in a header, the query or the body. Raises a `ProxyError`, such as `InvalidKey`,
        `RouteNotAllowed` or `BodyTooLarge`, for a request that must be refused.
        """
        call = request.call_request
        is_encoded = bool(request_encoding.encoding_of(call.META))
        content_type = call.META.get("CONTENT_TYPE", "")
        is_usual = content_type == self.parser_classes[0].media_type  # nearly always; DRF's comparison is slower
        if not is_usual and call.announces_body and NEGOTIATOR.select_parser(request, request.parsers or ()) is None:
            raise UnsupportedMediaType(f'Unsupported media type "{content_type}" in request.')
        if self.body_use is BodyUse.SMALL:
            call.incoming_body.lower_limit(SMALL_BODY_BYTES)
        caller = caller_without_body(request)
        if caller is not None:
            call.mark_sender_known()
        elif is_encoded and not call.sender_is_known:
            raise UnsupportedMediaType(request_encoding.KEY_FIRST)  # nothing is decoded for a sender without a key
        await self.receive(call, None if call.sender_is_known else KeySearch(is_form=call.is_form))
        if caller is not None:
            request.caller, request.auth = caller, None
            # before parsing: a body beyond the key's limits is not parsed
            await self.check_policies(request)
        await self.parse(request)
        if caller is None or names_another_key(request, caller):
            await self.authorize(request)

    async def receive(self, call: CallRequest, search: KeySearch | None) -> None:
        """Receives the request's body. `search`, if given, looks for a valid key in the bytes while they arrive.

        Raises:
            InvalidKey: `search` was given and has found no valid key.

        The other errors of `CallRequest.read_body` are raised, too.
        """
        await call.read_body(search)

    def perform_authentication(self, request: Request) -> None:
        """Finds the caller to whom the request's key belongs, and stores the caller in `request.caller`.

        The limits for senders without a key then no longer hold for the request. Raises the authenticator's error if
        there is no valid key. A view without authenticators needs no key.
        """
        # No request is anonymous, unlike in Django REST framework.
        for authenticator in self.get_authenticators():
            proxy_request = cast(ProxyRequest, request)
            proxy_request.caller, proxy_request.auth = cast(tuple[Caller, None], authenticator.authenticate(request))
            proxy_request.call_request.mark_sender_known()

    async def authorize(self, request: ProxyRequest) -> None:
        """Finds the caller by the request's key, checks the key's permissions, and counts the request.

        It counts against the limits of the key and of its team. Raises a `ProxyError`: `InvalidKey` if there is no
        valid key, or the error of a permission or a limit.
        """
        self.perform_authentication(request)
        await self.check_policies(request)

    async def check_policies(self, request: ProxyRequest) -> None:
        """Checks the permissions of a request's key, and counts the request against the key's limits.

        Calls the hook `on_authenticated` first. Raises a `ProxyError`, such as `RouteNotAllowed` or `RateLimited`, for
        a request that must be refused.
        """
        self.on_authenticated(request)
        self.check_permissions(request)
        for throttle in cast(list[Throttle], self.get_throttles()):
            # Waits only if the limits are counted in Redis; all else is in memory.
            await throttle.check(request, self)

    async def parse(self, request: ProxyRequest) -> None:
        """Parses the request's body, a large one in a thread, and stores the result in `request.data`."""
        await large_bodies.run(len(request.call_request.decoded_body), lambda: request.data)

    def on_authenticated(self, request: ProxyRequest) -> None:
        """Hook for subclasses, called when the request's key was found valid; does nothing by default.

        Called again if the body has another key, which takes precedence.
        """

    async def before_error(self) -> None:
        """Hook for subclasses, called before `on_error`, for slow work that needs a thread; does nothing by default."""

    def on_error(self, error: ProxyError) -> None:
        """Hook for subclasses, called when the gateway answers with an error of its own; does nothing by default."""

    def on_departure(self) -> None:
        """Hook for subclasses, called when the caller leaves before there is an answer; does nothing by default."""
