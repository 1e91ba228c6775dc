"""Serves `/openai2` and all paths below it: the Responses API for clients of the simple API."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from django.http.response import HttpResponseBase

from proxyapi import openapi
from proxyapi.call import gateway_fields
from proxyapi.call.call_request import ProxyRequest
from proxyapi.dispatch.base_view import BodyUse
from proxyapi.dispatch.call_view import CallView
from proxyapi.exceptions import BadRequest
from proxyapi.simple_api.chat import JSONCallView
from proxyapi.streams import sse
from proxyapi.streams.relay import RESPONSES, resumed
from proxyapi.upstream.request import UpstreamRequest

# A stream of `/openai2` ends with `[DONE]`, which OpenAI's own streams of responses do not have.
RESPONSES_WITH_DONE = replace(RESPONSES, trailer=sse.DONE)
# A request with one of these needs no `input`; one with a prompt template needs no `model` either.
INPUT_SOURCES = ("prompt", "previous_response_id", "conversation")


class ResponsesView(JSONCallView):
    route = "/openai2"
    upstream_path = "/responses"

    @openapi.create_response
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = gateway_fields.upstream_body(request.data)
        if body.get("prompt") is None:
            gateway_fields.require(body, "model", str, "a non-empty string")
        if not any(body.get(source) is not None for source in INPUT_SOURCES):
            gateway_fields.require(body, "input", (str, list), "a non-empty string or array")
        if body.get("stream") is not None and not isinstance(body["stream"], bool):
            raise BadRequest("Invalid 'stream': expected true or false.", param="stream", code="invalid_type")
        return await self.forward(await self.upstream_request(request, body), RESPONSES_WITH_DONE)


class CompactView(JSONCallView):
    route = "/openai2/compact"
    upstream_path = "/responses/compact"

    @openapi.compact_response
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = gateway_fields.upstream_body(request.data)
        return await self.forward(await self.upstream_request(request, body))


class InputTokensView(CompactView):
    route = "/openai2/input_tokens"
    upstream_path = "/responses/input_tokens"

    @openapi.count_input_tokens
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        return await super().post(request)


class StoredResponseView(CallView):
    """Base class of the views that read, cancel or delete one stored response, whose id is in the URL.

    The body of such a call has only fields for the gateway, such as the key, so it is not sent upstream.
    """

    body_use = BodyUse.SMALL
    suffix: ClassVar[str] = ""

    async def forward_about(self, request: ProxyRequest, response_id: str, method: str) -> HttpResponseBase:
        """Sends upstream a request about the stored response `response_id`; returns upstream's answer for the caller.

        The path sent upstream is `/responses/`, the id, and the attribute `suffix`, such as `/cancel`.
        """
        self.call.facts.stream = request.query_params.get("stream", "").lower() in {"true", "1"}
        upstream_request = UpstreamRequest(
            method,
            f"/responses/{response_id}{self.suffix}",
            credentials=gateway_fields.credentials(request.data, request.query_params, request.caller),
            deadline=gateway_fields.deadline(request.data, request.query_params),
            query=gateway_fields.upstream_query(request.query_params),
        )
        return await self.forward(upstream_request, resumed(RESPONSES_WITH_DONE))


class ResponseView(StoredResponseView):
    route = "/openai2/{id}"

    @openapi.retrieve_response
    async def get(self, request: ProxyRequest, response_id: str) -> HttpResponseBase:
        return await self.forward_about(request, response_id, "GET")

    @openapi.delete_response
    async def delete(self, request: ProxyRequest, response_id: str) -> HttpResponseBase:
        return await self.forward_about(request, response_id, "DELETE")


class CancelView(StoredResponseView):
    route = "/openai2/{id}/cancel"
    suffix = "/cancel"

    @openapi.cancel_response
    async def post(self, request: ProxyRequest, response_id: str) -> HttpResponseBase:
        return await self.forward_about(request, response_id, "POST")


class InputItemsView(StoredResponseView):
    route = "/openai2/{id}/input_items"
    suffix = "/input_items"

    @openapi.list_input_items
    async def get(self, request: ProxyRequest, response_id: str) -> HttpResponseBase:
        return await self.forward_about(request, response_id, "GET")
