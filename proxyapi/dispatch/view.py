"""Owns what every endpoint does: admit, handle, answer errors.

The order of a call, for `CallView`: content type checked → body received, under the terms for strangers until a key is
seen (`proxyapi.call.request_body`) → key checked, its limits counted → body parsed → view's own checks → its budget
held of (`proxyapi.limits.budgets`) → `Call.begin` → upstream → answer read or relayed → `Call.end`, before the last
byte leaves. A key that is in the body is checked after that is parsed. On `/v1` (`proxyapi.v1.views`) the key is
checked first: there it is never in the body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, ClassVar, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi.bodies import large_bodies, model_places, request_encoding
from proxyapi.bodies.json_body import JSONBody
from proxyapi.call.call import Call
from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.call.parsers import JSONObjectParser
from proxyapi.call.request_body import SMALL_BODY_BYTES
from proxyapi.dispatch import model_policy
from proxyapi.dispatch.authentication import SecurityKeyAuthentication, caller_without_body, names_another_key
from proxyapi.dispatch.permissions import RouteAllowed
from proxyapi.dispatch.throttling import KeyLimits, Throttle
from proxyapi.exceptions import (
    BudgetExceeded,
    CallerGone,
    InternalError,
    InvalidKey,
    MethodNotAllowed,
    ProxyError,
    UnsupportedMediaType,
    from_framework,
    render,
)
from proxyapi.keys.keyring import UNLIMITED, Caller
from proxyapi.limits import budgets
from proxyapi.limits.budgets import Reservation
from proxyapi.limits.cost_ceiling import Form
from proxyapi.object_owners import object_access
from proxyapi.routes import Route
from proxyapi.strangers.key_search import KeySearch
from proxyapi.strangers.wrong_key_pace import refusal_pace
from proxyapi.streams.early_stream import EarlyStream
from proxyapi.streams.relay import Dialect, EventRelay, RelayResponse
from proxyapi.streams.response_head import set_passed_headers
from proxyapi.upstream import client, loops
from proxyapi.upstream.client import UpstreamAnswer, UpstreamRequest
from usage.answers.event_stream import begins_stream
from usage.counters import counters
from usage.ledger import ledger
from usage.models import Outcome

logger = logging.getLogger(__name__)

NEGOTIATOR = DefaultContentNegotiation()  # it chooses the parser, and knows nothing of a request


class BodyUse(Enum):
    """How much of a request's body a view reads."""

    NONE = auto()  # it answers as if there were none
    SMALL = auto()  # at most `SMALL_BODY_BYTES`: the body is nothing but a place for the key
    WHOLE = auto()  # at most MAX_BODY_BYTES, of a form MAX_UPLOAD_BYTES


class ProxyView(APIView):
    """DRF's view with an async `dispatch`: the same policies, no thread, no negotiation."""

    parser_classes: tuple[type[BaseParser], ...] = (JSONObjectParser,)
    authentication_classes: tuple[type[BaseAuthentication], ...] = ()
    # A view that takes a body parses it, so only callers with a key may send one: see `receive_body`.
    body_use: ClassVar[BodyUse] = BodyUse.NONE
    # Whether a request of this view counts against MAX_PARALLEL_REQUESTS.
    takes_capacity: ClassVar[bool] = False

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> ProxyRequest:
        return ProxyRequest(
            request,
            parsers=self.get_parsers(),
            negotiator=NEGOTIATOR,
            parser_context=self.get_parser_context(request),
        )

    async def dispatch(self, request: CallRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]  # async, as Django allows
        self.args, self.kwargs = args, kwargs
        self.request = proxy_request = self.initialize_request(request, *args, **kwargs)
        try:
            return await self._handle(proxy_request, **kwargs)
        except (asyncio.CancelledError, CallerGone):
            self.on_departure()
            raise
        except Exception as fault:  # the border: whatever went wrong becomes an answer
            return self._refusal(fault, request)
        finally:
            # What Django and DRF make of circles would keep the body until the collector comes.
            proxy_request.parser_context.clear()
            vars(self).pop("head", None)

    def _refusal(self, fault: Exception, request: CallRequest) -> HttpResponse:
        """Not in `dispatch`: a frame that has an error and is in its traceback keeps itself, and the body, alive."""
        error = from_framework(fault)
        if isinstance(error, InternalError):
            logger.error("a view failed", exc_info=fault, extra={"request_id": request.request_id})
        elif isinstance(error, InvalidKey):
            error = refusal_pace.refuse(error, request.META.get("REMOTE_ADDR", ""))
        if error.outcome == Outcome.REJECTED:
            counters.count_refusal(error.code)
        self.on_error(error)
        return render(error, request)

    async def _handle(self, request: ProxyRequest, **kwargs: Any) -> HttpResponseBase:
        method = (request.method or "").lower()
        if method == "options":
            return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if handler is None:
            raise MethodNotAllowed(self.allowed_methods)
        await self.admit(request)
        response: HttpResponseBase = await handler(request, **kwargs)
        return response

    async def admit(self, request: ProxyRequest) -> None:
        """Takes the body, if the view reads one, and lets the caller in; or raises why not."""
        if self.takes_capacity:
            capacity.check_room()  # said before the body is sent; a stranger takes no place
        if self.body_use is BodyUse.NONE:
            request.call_request.leave_body()
            await self.authorize(request)
        else:
            await self.receive_body(request)

    async def receive_body(self, request: ProxyRequest) -> None:
        """Receives and parses the body for whoever shows a valid key in a header, the query or the body.

        A key that is not in the body is counted before the body is parsed: one that is over its limits costs no more.
        """
        call = request.call_request
        is_encoded = bool(request_encoding.encoding_of(call.META))
        content_type = call.META.get("CONTENT_TYPE", "")
        is_usual = content_type == self.parser_classes[0].media_type  # nearly always; DRF compares with more effort
        if not is_usual and call.announces_body and NEGOTIATOR.select_parser(request, request.parsers or ()) is None:
            raise UnsupportedMediaType(f'Unsupported media type "{content_type}" in request.')
        if self.body_use is BodyUse.SMALL:
            call.incoming_body.restrict(SMALL_BODY_BYTES)
        caller = caller_without_body(request)
        if caller is not None:
            call.know_sender()
        elif is_encoded and not call.sender_is_known:
            raise UnsupportedMediaType(request_encoding.KEY_FIRST)  # nothing is decoded for a stranger
        await call.read_body(None if call.sender_is_known else KeySearch(is_form=call.is_form))
        if caller is not None:
            request.user, request.auth = cast(Any, caller), None
            await self.check_policies(request)
        await self.parse(request)
        if caller is None or names_another_key(request, caller):
            await self.authorize(request)

    def perform_authentication(self, request: Request) -> None:
        """DRF's, without its answers for nobody: an authenticator of ours says who it is, or raises."""
        for authenticator in self.get_authenticators():
            request.user, request.auth = cast(tuple[Any, None], authenticator.authenticate(request))
            cast(ProxyRequest, request).call_request.know_sender()

    async def authorize(self, request: ProxyRequest) -> None:
        """Finds out whose call it is, and what that key may do; or raises why not."""
        self.perform_authentication(request)
        await self.check_policies(request)

    async def check_policies(self, request: ProxyRequest) -> None:
        """DRF's policies, in memory; only what processes share is waited for, and only if the key is counted."""
        self.on_authenticated(request)
        self.check_permissions(request)
        for throttle in cast(list[Throttle], self.get_throttles()):
            await throttle.check(request, self)

    async def parse(self, request: ProxyRequest) -> None:
        """Reads the body into `request.data`; a large one beside the event loop."""
        await large_bodies.run(len(request.call_request.decoded_body), lambda: request.data)

    def on_authenticated(self, request: ProxyRequest) -> None:
        """The key is good."""

    def on_error(self, error: ProxyError) -> None:
        """The request gets an error of ours."""

    def on_departure(self) -> None:
        """The caller left before there was an answer."""


class CallView(ProxyView):
    """A view whose requests go upstream and into the ledger."""

    authentication_classes: tuple[type[BaseAuthentication], ...] = (SecurityKeyAuthentication,)
    permission_classes: tuple[type[BasePermission], ...] = (RouteAllowed,)
    throttle_classes: tuple[type[Throttle], ...] = (KeyLimits,)
    takes_capacity = True
    route: ClassVar[str]

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        call_request = cast(CallRequest, request)
        call_request.route = self.route
        self.call = Call(call_request)

    @property
    def caller(self) -> Caller:
        """The key that makes the call."""
        return cast(ProxyRequest, self.request).caller

    def on_authenticated(self, request: ProxyRequest) -> None:
        has_slot = bool(self.call.facts.key_name)  # a key in the body may follow another one in a header
        self.call.facts.identify(request.caller)
        if not has_slot:
            request.call_request.held.enter_context(capacity.slot())

    def on_error(self, error: ProxyError) -> None:
        self.call.fail(error, status=error.status_code)

    def on_departure(self) -> None:
        self.call.end(Outcome.CLIENT_CANCELLED, None)

    async def forward(
        self,
        request: UpstreamRequest,
        dialect: Dialect | None = None,
        rewrite: Callable[[bytes], bytes] = lambda body: body,
    ) -> HttpResponseBase:
        """Sends `request` upstream and answers with what comes back, unchanged.

        With a `dialect` a stream of events is relayed as it arrives; everything else is read
        whole first, and goes through `rewrite` if upstream's status is 200.
        """
        answer = await self.ask(request, dialect)
        if dialect is not None and await self.is_stream(answer):
            return RelayResponse(EventRelay(self.call, answer, dialect))
        return await self.whole(answer, rewrite)

    async def is_stream(self, answer: UpstreamAnswer) -> bool:
        """Whether the answer is a stream of events, by its label, or by its first bytes if the call asked for one.

        Servers label theirs as application/json, text/plain or application/octet-stream, too.
        """
        if answer.status >= 300:
            return False
        return answer.is_event_stream or (self.call.facts.stream and await answer.begins_as(begins_stream))

    async def ask(self, request: UpstreamRequest, dialect: Dialect | None = None) -> UpstreamAnswer:
        """The head of upstream's answer; from here on the call is in the ledger.

        With a `dialect` a call that asks for a stream gets comments while it waits.
        Raises what `check_models`, `object_access.check`, `loops.check_key` and `reserve` raise: then upstream has not
        heard of the call.
        """
        capacity.check_open()
        may_stream = (self.call.facts.stream and self.request.method != "HEAD") or request.upload is not None
        if dialect is not None and settings.SSE_KEEPALIVE_SECONDS and may_stream:
            self.call.request.early_stream = EarlyStream(self.call, dialect)
        await self.check_models(request)
        if request.content is not None and request.json is None:
            raise TypeError("a request with content says what is in it, for its objects' owners to be checked")
        access = await object_access.check(request, self.caller)
        self.call.answer.created = access.made
        self.call.new_objects.exclude(access.named)
        loops.check_key(request.credentials.api_key)
        self.call.facts.use_account(request.credentials)
        if request.upload is None:
            await self.reserve(request.method, request.route, request.json or form_of(request))
        self.call.begin()
        await ledger.durable()
        return await self.send(request)

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """The head of upstream's answer to a call that is in the ledger."""
        answer = await client.send(request)
        self.call.read_head(answer)
        return answer

    async def check_models(self, request: UpstreamRequest) -> None:
        """Checks the models that a request names, if its key is limited to some; a form on its way is read first.

        Raises what `policy.check_models` raises.
        """
        caller = self.caller
        if caller.allowed_models and request.upload is None:
            members = request.json.members if request.json is not None else ()
            named = await large_bodies.run(
                request.text_size, model_places.in_request, members, request.form_texts, request.query
            )
            model_policy.check_models(request.route, request.method, named, caller)

    async def reserve(self, method: str, route: Route | None, body: JSONBody | Form | None) -> None:
        """Reserves the most that the call can cost, if its key has a budget; costs nothing otherwise.

        The call knows its reservation before the wait for the database: if the caller leaves during that wait, the
        reservation may have been taken, and is settled with the call.

        Raises:
            BudgetExceeded, BudgetUnavailable, ModelNotPriced, RouteNotAllowed: nothing may go upstream.
        """
        call, caller = self.call.request, self.caller
        if caller.budgets == UNLIMITED:
            return
        dollars = await budgets.highest_cost_of(method, route, body)
        if not dollars:
            return
        day = datetime.fromtimestamp(call.arrived_at, UTC).date()  # as in its row
        call.held.reservation = reservation = Reservation(call.request_id)
        try:
            await budgets.reserve(reservation, day, caller, dollars)
        except BudgetExceeded:  # nothing was reserved
            call.held.reservation = None
            raise

    async def whole(
        self, answer: UpstreamAnswer, rewrite: Callable[[bytes], bytes] = lambda body: body
    ) -> HttpResponse:
        """The answer, read to its end; its row is written."""
        try:
            body = await answer.read()
        finally:
            answer.close()
        self.call.facts.mark_upstream_ended()
        await self.call.read_answer(body)
        if answer.status >= 300:
            self.call.answer.read_error(body, answer.status)
        if answer.status == 200:
            body = await large_bodies.run(len(body), rewrite, body)
        if answer.status >= 300 or self.call.answer.error is not None:
            body = await large_bodies.run(len(body), self.call.redacted, body)
        await self.call.keep_bodies()
        self.call.facts.count_sent(0 if self.request.method == "HEAD" else len(body))
        self.call.end(self.outcome(answer.status), answer.status)
        response = HttpResponse(body, status=answer.status)
        set_passed_headers(response, self.call.headers_down(answer))  # its content type is upstream's, or none
        await self.call.wait_until_recorded()
        return response

    def outcome(self, status: int) -> Outcome:
        """What an answer that was read whole means. Some servers tell what went wrong with status 200.

        A look at a response that has failed is no failure.
        """
        failed = status >= 300 or (self.call.answer.error is not None and self.request.method == "POST")
        return Outcome.UPSTREAM_ERROR if failed else Outcome.SUCCESS


def form_of(request: UpstreamRequest) -> Form | None:
    """Returns what the price of a form depends on; None for a request without a form."""
    if not request.form:
        return None
    sizes = [len(content) for _, (file_name, content, _) in request.form if file_name is not None]
    return Form.of(request.form_texts, sizes)
