"""Serves `POST /openai`, `POST /chatgpt` and `POST /embeddings`, whose requests and answers are JSON objects."""

from __future__ import annotations

from typing import ClassVar

from django.http.response import HttpResponseBase

from proxyapi import openapi
from proxyapi.bodies import large_bodies
from proxyapi.bodies.received_object import ReceivedObject, edited
from proxyapi.call import gateway_fields
from proxyapi.call.call_request import ProxyRequest
from proxyapi.dispatch.base_view import BodyUse
from proxyapi.dispatch.call_view import CallView
from proxyapi.simple_api import chat_bodies
from proxyapi.upstream.request import UpstreamRequest

DEFAULT_EMBEDDING_MODEL = "text-embedding-3-large"


class JSONCallView(CallView):
    """Base class of views that send upstream a JSON object, made from the JSON object that the caller sent."""

    body_use = BodyUse.WHOLE
    upstream_path: ClassVar[str]

    async def upstream_request(self, request: ProxyRequest, body: dict[str, object]) -> UpstreamRequest:
        """Builds the request for upstream: the caller's JSON text, edited to have exactly the members in `body`.

        Stores the model, and whether `body` asks for a stream, in the call's facts for the ledger. Frees the memory of
        the caller's text.

        Raises:
            BadRequest: a field for the gateway, such as `openai_api_key` or `timeout`, has an invalid value.
            UpstreamKeyMissing: no upstream key is in the request, stored for the caller, or in the settings.
        """
        model = body.get("model")
        self.call.facts.model = model if isinstance(model, str) else ""
        self.call.facts.stream = body.get("stream") is True
        received = request.data if isinstance(request.data, ReceivedObject) else ReceivedObject()  # without a body
        json = await large_bodies.run(len(received.raw), edited, received, body)
        received.forget_text()
        return UpstreamRequest(
            "POST",
            self.upstream_path,
            credentials=gateway_fields.credentials(request.data, request.query_params, request.caller),
            deadline=gateway_fields.deadline(request.data, request.query_params),
            content=json.raw,
            json=json,
        )


class OpenAIView(JSONCallView):
    route = "/openai"
    upstream_path = "/chat/completions"

    @openapi.chat_completion
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = gateway_fields.upstream_body(request.data)
        chat_bodies.refuse_stream(body)
        gateway_fields.require(body, "model", str, "a non-empty string")
        messages = gateway_fields.require(body, "messages", list, "a non-empty array")
        image = body.pop("image", None)
        if image is not None:
            body["messages"] = chat_bodies.add_image(messages, image)
        return await self.forward(await self.upstream_request(request, body))


class ChatGPTView(JSONCallView):
    route = "/chatgpt"
    upstream_path = "/chat/completions"

    @openapi.chatgpt
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        upstream_request = await self.upstream_request(request, chat_bodies.chatgpt_body(request.data))
        return await self.forward(upstream_request, rewrite=chat_bodies.chatgpt_answer)


class EmbeddingsView(JSONCallView):
    route = "/embeddings"
    upstream_path = "/embeddings"

    @openapi.embeddings
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = gateway_fields.upstream_body(request.data)
        if body.get("model") is None:
            body["model"] = DEFAULT_EMBEDDING_MODEL
        gateway_fields.require(body, "model", str, "a non-empty string")
        gateway_fields.require(body, "input", (str, list), "a non-empty string or array")
        return await self.forward(await self.upstream_request(request, body))
