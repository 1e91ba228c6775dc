"""The base class of the views whose requests go upstream. Its methods take the steps of a call, in this order:

Content type checked → body received, with tighter limits until a valid key is seen (`proxyapi.call.request_body`) → key
checked, its limits counted → body parsed → the endpoint's own checks → budget reserved (`proxyapi.limits.budgets`) →
`Call.begin` → upstream → answer read or relayed → `Call.end`, before the last byte of the answer leaves.

A key in the body is checked after the body was parsed. On `/v1` (`proxyapi.v1.views`) the key is never in the body, so
it is checked first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar, cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission

from proxyapi.bodies import large_bodies, model_places
from proxyapi.bodies.billing_parameters import count_pictures, read_asked_usage
from proxyapi.bodies.json_body import JSONBody
from proxyapi.cached_settings import call_settings
from proxyapi.call import gateway_fields
from proxyapi.call.call import Call
from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.dispatch import model_policy
from proxyapi.dispatch.authentication import SecurityKeyAuthentication
from proxyapi.dispatch.base_view import ProxyView
from proxyapi.dispatch.caller_deadline import CallerDeadline
from proxyapi.dispatch.permissions import RouteAllowed
from proxyapi.dispatch.throttling import KeyLimits, Throttle
from proxyapi.exceptions import (
    ProxyError,
)
from proxyapi.keys.callers import Caller
from proxyapi.limits import budgets
from proxyapi.limits.output_limits import add_output_limit, by_plain_name, limit_by_key
from proxyapi.limits.request_content import Form
from proxyapi.object_owners import ownership_check
from proxyapi.routes import Route
from proxyapi.streams.early_stream import EarlyStream
from proxyapi.streams.relay import Dialect, EventRelay, RelayResponse
from proxyapi.streams.response_head import PassedAnswer
from proxyapi.upstream import client, self_calls
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.passed_headers import without_encoding
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.event_stream import begins_stream
from usage.ledger import ledger
from usage.models import Outcome


class CallView(ProxyView):
    """Base class of the views whose requests go upstream and are recorded in the ledger.

    `route` is the view's name in the ledger. `caller` has the facts about the request's key, once the key has been
    checked.
    """

    authentication_classes: tuple[type[BaseAuthentication], ...] = (SecurityKeyAuthentication,)
    permission_classes: tuple[type[BasePermission], ...] = (RouteAllowed,)
    throttle_classes: tuple[type[Throttle], ...] = (KeyLimits,)
    takes_capacity = True
    takes_timeout: ClassVar[bool] = True  # the field `timeout` of a request is for the gateway
    route: ClassVar[str]
    caller: Caller

    def setup(self, request: HttpRequest, *args: object, **kwargs: object) -> None:
        """Creates the `Call` object for a new request, and sets the request's route; runs before `dispatch`."""
        super().setup(request, *args, **kwargs)
        call_request = cast(CallRequest, request)
        call_request.route = self.route
        self.call = Call(call_request)

    def on_authenticated(self, request: ProxyRequest) -> None:
        """Records the caller of the request, and takes a slot among the calls in flight.

        A call that has a slot already keeps it.

        Raises:
            Overloaded: all slots are taken.
        """
        # Called a second time for a key in the body that takes precedence over one in a header. The call keeps its
        # slot.
        has_slot = bool(self.call.facts.key_name)  # false, unless a key in the body is checked after one in a header
        self.caller = request.caller
        self.call.facts.identify(self.caller)
        if not has_slot:
            capacity.take_slot()
            request.call_request.resources.at_end(capacity.give_slot)

    async def before_error(self) -> None:
        await self.call.keep_bodies()

    def on_error(self, error: ProxyError) -> None:
        self.call.fail(error, status=error.status_code)

    def on_departure(self) -> None:
        self.call.end(Outcome.CLIENT_CANCELLED, None)

    async def forward(
        self,
        request: UpstreamRequest,
        dialect: Dialect | None = None,
        rewrite: Callable[[bytes], bytes] | None = None,
    ) -> HttpResponseBase:
        """Checks a call, sends its request upstream, and returns upstream's answer as a response for the caller.

        With `dialect`, the rules for the route's event streams, a stream of events is passed on as it arrives. Any
        other answer is read whole; with status 200, its body is converted by `rewrite`, if given.
        """
        answer = await self.check_and_send(request, dialect)
        if dialect is not None and await self.is_stream(answer):
            return RelayResponse(EventRelay(self.call, answer, dialect))
        return await self.respond_whole(answer, rewrite)

    async def is_stream(self, answer: UpstreamAnswer) -> bool:
        """Returns whether upstream's answer is a stream of events, judging by its Content-Type.

        If the call asked for a stream, an answer with another Content-Type is judged by its first bytes. An answer with
        a status of 300 or more is never a stream.
        """
        if answer.status >= 300:
            return False
        # Some servers label streams as application/json, text/plain or application/octet-stream.
        return answer.is_event_stream or (self.call.facts.stream and await answer.begins_as(begins_stream))

    async def check_and_send(self, request: UpstreamRequest, dialect: Dialect | None = None) -> UpstreamAnswer:
        """Checks a call, reserves its dollars, writes its begin record to the journal, and sends it upstream.

        Returns upstream's answer as soon as its head has arrived. With `dialect`, a caller who wants a stream gets
        keep-alive comments meanwhile. A form that goes upstream while it arrives is checked by its own method `check`,
        which also reserves the dollars.

        Raises:
            ProxyError: before anything is sent, the errors of `check_models`, `ownership_check.check`,
                `self_calls.check`, `reserve` and `Call.begin`; afterwards, those of `client.send`.
        """
        call, facts, caller = self.call, self.call.facts, self.caller
        may_stream = (facts.stream and call.request.method != "HEAD") or request.upload is not None
        if may_stream and dialect is not None and call_settings().SSE_KEEPALIVE_SECONDS:
            call.request.early_stream = EarlyStream(call, dialect)
        await self.check_models(request)
        if request.json is not None and request.method == "POST":
            fields = request.json.by_name
            facts.read_body_labels(fields)
            asked = by_plain_name(fields)
            facts.asked_usage = read_asked_usage(request.route, asked)
            call.answer.expected_pictures = count_pictures(request.route, asked)
        if request.content is not None and request.json is None:
            raise TypeError("a request with content needs `json`: the owners of the objects in it must be checked")
        access = await ownership_check.check(request, caller)
        call.expect_objects(access.made)
        call.created_objects.exclude(access.named, caller.shared_objects)
        self_calls.check(request.credentials.api_key, call.request.META.get("HTTP_VIA", ""))
        facts.use_account(request)
        facts.asked = request
        if request.upload is None:
            if caller.max_output_tokens is not None and request.method == "POST":
                facts.output_limit = limit_by_key(request.route, request.json, caller.max_output_tokens)
            await self.reserve(request.method, request.route, request.json)
            if facts.output_limit is not None:
                await self.limit_output(request)
        elif request.upload.is_whole:
            await request.upload.check()
        call.begin()
        if self.takes_timeout:
            self.limit_time(request)
        await ledger.wait_until_durable()
        return await self.send(request)

    def limit_time(self, request: UpstreamRequest) -> None:
        """Marks the deadline of a request to upstream as the caller's, if the caller has set a time limit.

        If the call must go on without its caller, a timer is started instead: when the time is over, the caller gets
        status 504, and the call itself goes on upstream, with `REQUEST_TIMEOUT` from now as its time limit.
        """
        request_fields = cast(ProxyRequest, self.request)
        if not gateway_fields.gives_timeout(request_fields.data, request_fields.query_params):
            return
        request.is_callers_deadline = not self.call.request.incoming_body.call_goes_on
        if not request.is_callers_deadline:
            self.call.request.caller_deadline = CallerDeadline(self.call, request.deadline)
            # The call itself may go on upstream, for this long from now.
            request.deadline = asyncio.get_running_loop().time() + call_settings().REQUEST_TIMEOUT

    async def limit_output(self, request: UpstreamRequest) -> None:
        """Adds a limit of output tokens to the request for upstream, if the gateway has chosen one for this call.

        A request with such a limit goes upstream without its Content-Encoding, such as gzip.
        """
        limit = self.call.facts.output_limit
        if limit is None or request.json is None:
            return
        request.json = await large_bodies.run(request.json.size, add_output_limit, request.json, limit)
        request.content = request.json.raw
        if request.headers is not None:  # the body is not encoded again
            request.headers = without_encoding(request.headers)

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Sends a request upstream, and returns upstream's answer as soon as its head has arrived.

        Stores the head in the call. Use this only after the begin record of the call has been written to the journal.
        """
        answer = await client.send(request)
        self.call.read_head(answer)
        return answer

    async def check_models(self, request: UpstreamRequest) -> None:
        """Checks that key and team may use the models in a request to upstream; a form is checked later.

        Raises the errors of `model_policy.check_models`.
        """
        caller = self.caller
        # Most keys may use all models. A form that is passed on while it arrives is checked when all of it has been
        # read.
        if caller.model_ceilings and request.upload is None:
            members = request.json.members if request.json is not None else ()
            named = await large_bodies.run(request.text_size, model_places.in_request, members, request.query)
            model_policy.check_models(request.route, request.method, named, caller)
            implied = await large_bodies.run(request.text_size, model_places.implied_by_tools, members)
            model_policy.check_implied(request.method, implied, caller)

    async def reserve(self, method: str, route: Route | None, body: JSONBody | Form | None) -> None:
        """Reserves the highest possible cost of the call in the budgets of its key and team, if they have any.

        Stores in the call's facts the usage that these dollars pay for. If too little is left for the longest answer,
        reserves dollars for a shorter one, and stores its limit of output tokens, too (`output_limit`).

        Raises:
            BudgetExceeded, BudgetUnavailable, ModelNotPriced, RouteNotAllowed: nothing was reserved, so nothing may be
                sent upstream.
        """
        call, caller = self.call.request, self.caller
        if not caller.budget_ceilings:
            return
        ceiling = await budgets.find_ceiling(method, route, body)
        if ceiling is not None and (limit := self.call.facts.output_limit) is not None:
            ceiling = ceiling.with_output(limit.tokens)
        if ceiling is None or not (dollars := budgets.price_of(ceiling)):
            return
        day = datetime.fromtimestamp(call.arrived_at, UTC).date()  # the day of the call's row in the ledger
        reservation, reserved = await budgets.reserve(day, caller, ceiling, dollars)
        if self.call.has_ended:  # upstream has answered before the end of a form, for example
            reservation.release()
            return
        call.resources.hold(reservation)
        if reserved != ceiling:
            self.call.facts.output_limit = reserved.added_limit
        self.call.facts.suppose(reserved.max_usage)

    async def respond_whole(
        self, answer: UpstreamAnswer, rewrite: Callable[[bytes], bytes] | None = None
    ) -> HttpResponse:
        """Reads upstream's answer to its end, ends and records the call, and returns the response for the caller.

        `rewrite`, if given, converts the body of an answer with status 200. Secrets are removed from an answer with an
        error. Returns only after `Call.wait_until_recorded`. Raises the errors of `UpstreamAnswer.read`.
        """
        call = self.call
        try:
            body = await answer.read()
        finally:
            answer.close()
        call.facts.mark_upstream_ended()
        await call.read_answer(body)
        if answer.status >= 300:
            call.answer.read_error(body, answer.status)
        if answer.status == 200 and rewrite is not None:
            body = await large_bodies.run(len(body), rewrite, body)
        if answer.status >= 300 or call.answer.error is not None:
            body = await large_bodies.run(len(body), call.redacted, body)
        await call.keep_bodies()
        if call.request.incoming_body.left_at is None:
            call.facts.count_sent(0 if call.request.method == "HEAD" else len(body))
        call.end(self.outcome(answer.status), answer.status)
        response = PassedAnswer(answer.status, call.headers_down(answer), body)
        await call.wait_until_recorded()
        return response

    def outcome(self, status: int) -> Outcome:
        """Returns the outcome of a call whose answer was read whole: success, or an error of upstream.

        It is an error with a status of 300 or more and, for a POST, with any status if the body states an error.
        """
        # Some servers send an error with status 200. A GET that returns a stored response with an error in it has
        # succeeded.
        failed = status >= 300 or (self.call.answer.error is not None and self.call.request.method == "POST")
        return Outcome.UPSTREAM_ERROR if failed else Outcome.SUCCESS
