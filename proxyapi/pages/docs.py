"""`GET /docs` and `GET /openapi.json`: the description of the API, for people and for programs."""

from __future__ import annotations

import asyncio
import json

from django.http import HttpResponse

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.dispatch.base_view import ProxyView
from proxyapi.pages.page_headers import page_response, render


class DocsView(ProxyView):
    """View of `GET /docs`: the API's description as a page (Swagger UI)."""

    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return page_response(render(request.call_request, "docs.html"))


class OpenAPIView(ProxyView):
    """View of `GET /openapi.json`: the API's description as JSON, with the path prefix of this gateway."""

    @openapi.unlisted
    async def get(self, request: ProxyRequest) -> HttpResponse:
        description = await asyncio.to_thread(describe_api)
        if root_path := request.call_request.root_path:
            description = b'{"servers": %b, %b' % (json.dumps([{"url": root_path}]).encode(), description[1:])
        return HttpResponse(description, content_type="application/json", headers={"Cache-Control": "no-store"})


def describe_api() -> bytes:
    """Returns the OpenAPI 3.1 document of the gateway's API as JSON. Call this in a thread, since it is slow."""
    # Imported here: the first request loads the generator, and a worker at rest does without.
    from proxyapi.pages import api_description

    return api_description.describe_api()
