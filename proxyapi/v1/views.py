"""The view of `/v1`: OpenAI's own API, passed through. A client changes its base URL and its key, and nothing else.

The order of a call: key checked, its limits counted → route open? → body received (a form goes upstream meanwhile) →
models and objects checked, in a parsed copy of the body → budget reserved (for a form, before its last byte goes
upstream) → `Call.begin` → upstream → answer passed on → `Call.end`. Bytes pass unchanged, with two exceptions: the
usage of streamed chats (`proxyapi.streams.chat_usage_request`, `chat_usage_removal`) and
`proxyapi.limits.output_limits`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar
from urllib.parse import parse_qsl

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication

from proxyapi import openapi
from proxyapi.bodies import large_bodies, request_encoding
from proxyapi.bodies.json_body import read_json_body
from proxyapi.cached_settings import call_settings
from proxyapi.call import gateway_fields
from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.call.uploads import FormUpload
from proxyapi.dispatch.authentication import BearerAuthentication
from proxyapi.dispatch.base_urls import has_endpoint_twice, unknown_endpoint
from proxyapi.dispatch.form_view import FormView
from proxyapi.dispatch.permissions import may_use_model
from proxyapi.exceptions import NotFound, WebSocketRefused
from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys.callers import Caller
from proxyapi.keys.credentials import caller_credentials
from proxyapi.object_owners import ownership_check
from proxyapi.object_owners.owner_recording import GROWING_LISTS
from proxyapi.routes import METHODS, Route, find_route
from proxyapi.streams.chat_usage_removal import remove_usage
from proxyapi.streams.chat_usage_request import REFUSALS, ask_for_usage, usage_requests
from proxyapi.streams.relay import (
    CHAT,
    ERROR_OBJECT,
    RESPONSES,
    BodyRelay,
    Dialect,
    EventRelay,
    RelayResponse,
    resumed,
)
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.passed_headers import pass_up, separate_by_key, without_encoding
from proxyapi.upstream.request import UpstreamRequest
from proxyapi.upstream.self_calls import gateways_passed
from proxyapi.v1.list_filter import Keeps, read_visible_page
from usage.answers.reader import begins_object

# The dialect of a stream for which the gateway has asked for usage, and not the caller: usage is removed from it.
CHAT_WITHOUT_USAGE = replace(CHAT, to_caller=remove_usage)
# The dialects of families of routes. Every other family has `ERROR_OBJECT`.
DIALECTS = {"responses": RESPONSES, "chat/completions": CHAT, "completions": CHAT}


class PassThroughView(FormView):
    """View of all routes under `/v1`: passes requests upstream, and upstream's answers back.

    `found` is the request's route; None if `/v1` has no such route.
    """

    authentication_classes: tuple[type[BaseAuthentication], ...] = (BearerAuthentication,)
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "delete", "options"]  # type: ignore[misc]  # Django's attribute
    route = "/v1/*"
    takes_timeout = False
    found: Route | None = None

    def setup(self, request: HttpRequest, *args: object, **kwargs: object) -> None:
        """Prepares the view for a request, as in Django, and finds the request's route by its path.

        A HEAD request is treated as GET from here on.
        """
        super().setup(request, *args, **kwargs)
        self.raw_path = self.call.request.raw_path.decode("ascii", "replace")
        self.found = find_route(self.raw_path.removeprefix("/v1"))
        # A HEAD goes upstream as GET, since not every server knows HEAD; the body of the answer is not passed on.
        self.method = "GET" if request.method == "HEAD" else request.method or ""
        if self.found is not None:
            self.call.request.route = self.found.name
            self.call.answer.states_usage = self.found.family.states_usage

    async def admit(self, request: ProxyRequest) -> None:
        """Checks that one more call may run; finds the caller by its key, and counts the call against the key's limits.

        Receives no body yet. Raises a `ProxyError` if the call is refused.
        """
        # The body of a sender without a valid key is not received at all.
        capacity.check_room()
        await self.authorize(request)

    @openapi.unlisted
    async def handle(self, request: ProxyRequest, path: str) -> HttpResponseBase:
        """Passes the request upstream, and upstream's answer back to the caller."""
        call = request.call_request
        route = self.open_route(call)
        headers = pass_up(call.raw_headers)
        if self.caller.name != SECURITY_KEY_NAME:
            separate_by_key(headers, self.caller.name)
        if gateways := gateways_passed(call.META.get("HTTP_VIA", "")):
            headers["Via"] = gateways
        upstream_request = UpstreamRequest(
            self.method,
            route.path,
            credentials=caller_credentials(self.caller),
            deadline=asyncio.get_running_loop().time() + call_settings().REQUEST_TIMEOUT,
            query=gateway_fields.passed_query(call.raw_query),
            headers=headers,
        )
        dialect = DIALECTS.get(route.family.name, ERROR_OBJECT)
        if self.method == "GET":
            dialect = resumed(dialect)
        is_post = self.method == "POST"
        encoding = request_encoding.encoding_of(call.META) if is_post or call.announces_body else ""
        if is_post and call.is_form and route.family.takes_forms:
            self.prepare_form(upstream_request, encoding)
        else:
            await call.read_body()
            body = await read_json_body(call.decoded_body, call.META.get("CONTENT_TYPE", ""))
            self.call.facts.model = body.model
            self.call.facts.stream = asks_for_stream(call.raw_query) if body.stream is None else body.stream
            upstream_request.content, upstream_request.json = call.raw_body or None, body
            is_streamed_chat = route.name == "/v1/chat/completions" and self.call.facts.stream
            if is_streamed_chat and body.raw and usage_requests.are_made_for(body.model):
                asked = await large_bodies.run(body.size, ask_for_usage, body)
                body.drop_text()
                if asked is not None:
                    asking = replace(upstream_request, content=asked.raw, json=asked)
                    if encoding:  # the changed body is not encoded again
                        asking.headers = without_encoding(asking.headers)
                    return await self.relay_answer(asking, CHAT_WITHOUT_USAGE, as_it_came=upstream_request)
            body.drop_text()
        return await self.relay_answer(upstream_request, dialect)

    get = head = post = delete = handle

    @property
    def allowed_methods(self) -> list[str]:
        """The HTTP methods that the gateway accepts for the request's path.

        These are the methods of OpenAI's API for the path (GET, POST and DELETE for an unknown path), HEAD if GET is
        one of them, and OPTIONS.
        """
        known = METHODS if self.found is None else self.found.methods
        return [*known[:1], *(["HEAD"] if "GET" in known else []), *known[1:], "OPTIONS"]

    def open_route(self, request: CallRequest) -> Route:
        """Returns the request's route, if it is open on this gateway.

        Raises:
            NotFound: `/v1` has no such route, its path names the endpoint twice, or its family is closed by V1_ROUTES.
            WebSocketRefused: the request asks for a WebSocket.
        """
        if request.META.get("HTTP_UPGRADE", "").lower() == "websocket":
            raise WebSocketRefused
        route = self.found
        if route is None or has_endpoint_twice(route):
            raise unknown_endpoint(request.method, request.path, self.raw_path, request.root_path)
        name = route.family.name
        if name not in call_settings().V1_ROUTES:
            words = f"/v1/{name} is closed on this gateway; its setting V1_ROUTES can open it, by the name {name}."
            raise NotFound(words)
        return route

    def prepare_form(self, upstream_request: UpstreamRequest, encoding: str) -> None:
        """Prepares `upstream_request` to send the caller's form while it arrives; nothing is sent yet.

        `encoding` is the form's Content-Encoding.

        Raises:
            BodyTooLarge: the Content-Length is over the size limit.
            BadForm: the Content-Type states no boundary, or states it ambiguously.
        """
        call = self.call.request
        call.incoming_body.allow_large_form()
        call.incoming_body.check_announced()  # before anything is sent upstream
        self.call.facts.form = upstream_request.upload = FormUpload(
            call.incoming_body, call.raw_headers, self.check_form, encoding
        )

    async def check_form(self, form: FormUpload) -> None:
        """Checks that the caller's key may use the models and objects that a form names; reserves dollars for the call.

        Call this when the whole form was read, before its last bytes are sent upstream. Raises a `ProxyError` if the
        call is refused: then the last bytes must not be sent.
        """
        self.call.request.mark_body_received()
        assert self.found is not None  # noqa: S101  (it is open)
        await self.admit_form(form, self.found, self.call.request.raw_query.decode("latin-1"))

    async def relay_answer(
        self, request: UpstreamRequest, dialect: Dialect, as_it_came: UpstreamRequest | None = None
    ) -> HttpResponseBase:
        """Sends a request upstream, and returns the response for the caller: a stream to pass on, or a whole answer.

        From a list, the items that the caller may not see are removed.

        Args:
            request: the request for upstream.
            dialect: the rules for event streams of this route.
            as_it_came: `request` without the field that asks for usage, if the gateway has added this field; otherwise
                None. It is sent if upstream refuses the field.
        """
        answer = await self.check_and_send(request, dialect)
        if as_it_came is not None and answer.status in REFUSALS:
            answer = await self.ask_without_usage(answer, as_it_came)
        if answer.status < 300 and (keeps := self.listing_filter()) is not None:
            answer, page = await read_visible_page(request, answer, keeps)  # raises an error if it cannot be read
            if page is None:
                self.call.read_head(answer)
                return await self.respond_whole(answer)
            filtered = page
            if self.found is not None and self.found.name in GROWING_LISTS:
                await self.call.created_objects.record_listed(page, self.caller.name)
            response = await self.respond_whole(answer, lambda _: filtered)
            del response["link"]  # the header may name objects of other keys
            return response
        if await self.is_stream(answer):
            return RelayResponse(EventRelay(self.call, answer, dialect))
        if answer.is_text or answer.status >= 300 or await self.is_object(answer):
            return await self.respond_whole(answer)
        return RelayResponse(BodyRelay(self.call, answer))

    async def is_object(self, answer: UpstreamAnswer) -> bool:
        """Returns whether upstream's answer is a JSON object, judged by its first bytes and not by its Content-Type.

        Always False for a request other than POST, and on a route whose answers do not state usage.
        """
        return self.call.answer.states_usage and self.method == "POST" and await answer.begins_as(begins_object)

    async def ask_without_usage(self, refusal: UpstreamAnswer, request: UpstreamRequest) -> UpstreamAnswer:
        """Sends the caller's own `request` upstream, if upstream refused the field by which the gateway asks for usage.

        `refusal` is upstream's answer to the request with the field. If it is no refusal of this field, nothing is
        sent, and `refusal` is returned; otherwise the new answer is. If that is a success, later calls of the model are
        sent without the field (`give_up`).
        """
        try:
            body = await refusal.read()
        finally:
            refusal.close()
        if not usage_requests.may_be_refusal(refusal.status, body):
            return refusal
        await self.limit_output(request)
        # No other POST is ever sent twice. This one was refused before upstream did any work, so nothing was billed.
        answer = await self.send(request)
        if answer.status < 300 and request.json is not None:
            # Only now: if upstream refuses the call again, the field is not the cause. Any caller could otherwise stop
            # the adding, by an error that names the field.
            usage_requests.give_up(request.json)
        return answer

    def listing_filter(self) -> Keeps | None:
        """Returns a filter that keeps the items of the requested list that the caller may see.

        Returns None if the request asks for no list, or if the caller may see every item.
        """
        if self.method != "GET":
            return None
        caller, route = self.caller, self.found
        if route is None:
            return None
        if route.name == "/v1/models":
            return models_of(caller) if caller.model_ceilings else None
        return objects_of(caller) if route.is_collection and caller.name != SECURITY_KEY_NAME else None


def models_of(caller: Caller) -> Keeps:
    """Returns a filter for upstream's list of models; it keeps the models that the caller's key and team may use."""

    async def keeps(model_ids: Sequence[str]) -> Callable[[str], bool]:
        return lambda model_id: may_use_model(caller, model_id)

    return keeps


def objects_of(caller: Caller) -> Keeps:
    """Returns a filter for a list of stored objects; it keeps the objects that the caller's key may see."""
    return lambda object_ids: ownership_check.visibility_test(object_ids, caller)


def asks_for_stream(query: bytes) -> bool:
    """Returns whether a query string asks for a stream: its last parameter `stream` is `true` (in any case) or `1`."""
    # Django's parser would refuse a query with many fields, about which only upstream is to decide.
    if not query:
        return False
    given = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "stream"]
    return bool(given) and given[-1].lower() in {"true", "1"}
