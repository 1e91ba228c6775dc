"""`GET /docs` and `GET /openapi.json`: the API's description, to read, to try and to generate clients from."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from drf_spectacular.generators import SchemaGenerator

from proxyapi import openapi
from proxyapi.html import page
from proxyapi.requests import ProxyRequest
from proxyapi.views.base import ProxyView


class DocsView(ProxyView):
    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return page(render_to_string("docs.html"))


class OpenAPIView(ProxyView):
    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return HttpResponse(await asyncio.to_thread(describe_api), content_type="application/json")


@cache
def describe_api() -> bytes:
    """The OpenAPI 3.1 document. Making it takes a moment, so it is made once, and all answers share its bytes."""
    generator: Any = SchemaGenerator(urlconf="proxyapi.urls")  # type: ignore[no-untyped-call]  # it has no types
    return json.dumps(generator.get_schema(public=True)).encode()
