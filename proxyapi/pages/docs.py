"""`GET /docs` and `GET /openapi.json`: the API's description, to read, to try and to generate clients from."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.dispatch.view import ProxyView
from proxyapi.pages.page_headers import page, render


class DocsView(ProxyView):
    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return page(render(request.call_request, "docs.html"))


class OpenAPIView(ProxyView):
    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        description = await asyncio.to_thread(describe_api)
        if root_path := request.call_request.root_path:
            description = b'{"servers": %b, %b' % (json.dumps([{"url": root_path}]).encode(), description[1:])
        return HttpResponse(description, content_type="application/json", headers={"Cache-Control": "no-store"})


@cache
def describe_api() -> bytes:
    """The OpenAPI 3.1 document. Making it takes a moment, so it is made once, and all answers share its bytes."""
    generator: Any = SchemaGenerator(urlconf="proxyapi.urls")  # type: ignore[no-untyped-call]  # it has no types
    return json.dumps(generator.get_schema(public=True)).encode()
