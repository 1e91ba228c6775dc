"""`POST /openai`, `POST /chatgpt` and `POST /embeddings`: one JSON body up, one down."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http.response import HttpResponseBase

from proxyapi import chat, fields, openapi
from proxyapi.parsers import write_object
from proxyapi.requests import ProxyRequest
from proxyapi.upstream import UpstreamRequest
from proxyapi.views.base import CallView, TakesBody

DEFAULT_EMBEDDING_MODEL = "text-embedding-3-large"


class JSONCallView(CallView):
    """A call whose upstream body is a JSON object made from the caller's."""

    takes_body = TakesBody.WHOLE
    upstream_path: ClassVar[str]

    def upstream_request(self, request: ProxyRequest, body: dict[str, Any]) -> UpstreamRequest:
        model = body.get("model")
        self.call.model = model if isinstance(model, str) else ""
        self.call.stream = body.get("stream") is True
        return UpstreamRequest(
            "POST",
            self.upstream_path,
            credentials=fields.credentials(request.data, request.query_params, request.caller),
            deadline=fields.deadline(request.data, request.query_params),
            content=write_object(body, request.data),
            body=body,
        )


class OpenAIView(JSONCallView):
    route = "/openai"
    upstream_path = "/chat/completions"

    @openapi.chat_completion
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = fields.upstream_body(request.data)
        chat.refuse_stream(body)
        fields.require(body, "model", str, "a non-empty string")
        messages = fields.require(body, "messages", list, "a non-empty array")
        image = body.pop("image", None)
        if image is not None:
            body["messages"] = chat.join_image(messages, image)
        return await self.forward(self.upstream_request(request, body))


class ChatGPTView(JSONCallView):
    route = "/chatgpt"
    upstream_path = "/chat/completions"

    @openapi.chatgpt
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        upstream_request = self.upstream_request(request, chat.chatgpt_body(request.data))
        return await self.forward(upstream_request, rewrite=chat.chatgpt_answer)


class EmbeddingsView(JSONCallView):
    route = "/embeddings"
    upstream_path = "/embeddings"

    @openapi.embeddings
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        body = fields.upstream_body(request.data)
        if body.get("model") is None:
            body["model"] = DEFAULT_EMBEDDING_MODEL
        fields.require(body, "model", str, "a non-empty string")
        fields.require(body, "input", (str, list), "a non-empty string or array")
        return await self.forward(self.upstream_request(request, body))
