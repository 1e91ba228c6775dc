"""Serves `GET /health` and `GET /health2`: each sends upstream one real, minimal chat. Both need `ACCESS_TOKEN`."""

from __future__ import annotations

from django.conf import settings
from django.http.response import HttpResponseBase

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.dispatch.authentication import AccessTokenAuthentication
from proxyapi.dispatch.base_view import BodyUse
from proxyapi.dispatch.throttling import PageThrottle
from proxyapi.simple_api import chat_bodies
from proxyapi.simple_api.chat import JSONCallView

PROMPT = "Answer with the one word: ok"


class HealthView(JSONCallView):
    """View of `GET /health`: tests upstream with a short chat, made as for `/chatgpt`."""

    authentication_classes = (AccessTokenAuthentication,)
    throttle_classes = (PageThrottle,)
    body_use = BodyUse.NONE
    route = "/health"
    upstream_path = "/chat/completions"

    @openapi.health
    async def get(self, request: ProxyRequest) -> HttpResponseBase:
        body = chat_bodies.chatgpt_body({"prompt": PROMPT})
        return await self.forward(await self.upstream_request(request, body), rewrite=chat_bodies.chatgpt_answer)


class Health2View(HealthView):
    """View of `GET /health2`: tests upstream with a short chat, made as for `/openai`."""

    route = "/health2"

    @openapi.health2
    async def get(self, request: ProxyRequest) -> HttpResponseBase:
        body: dict[str, object] = {
            "model": settings.DEFAULT_MODEL,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        return await self.forward(await self.upstream_request(request, body))
