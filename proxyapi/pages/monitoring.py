"""The pages that need the token `ACCESS_TOKEN`: the newest calls, and the versions and limits of this server.

Two more pages need this token, `/health` and `/health2` in `proxyapi.simple_api.health`, which call upstream.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import ClassVar

import django
from django.conf import settings
from django.http import HttpResponse, JsonResponse

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.dispatch.authentication import AccessTokenAuthentication
from proxyapi.dispatch.base_view import ProxyView
from proxyapi.dispatch.throttling import PageThrottle
from proxyapi.pages.page_headers import page_response, render
from proxyapi.pages.reports import read_from_database
from usage.live.shipping_state import ShippingState
from usage.models import Outcome
from usage.page_data import newest_calls


class LogView(ProxyView):
    """View of `GET /log`: a plain page with the counters of all calls, and a table of the newest calls."""

    authentication_classes = (AccessTokenAuthentication,)
    throttle_classes = (PageThrottle,)
    failed_only: ClassVar[bool] = False

    @openapi.log
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return page_response(
            await read_from_database(lambda: render(request.call_request, "log.html", self.read_context()), "/log")
        )

    def read_context(self) -> dict[str, object]:
        return {
            "failed_only": self.failed_only,
            "upstream_error": Outcome.UPSTREAM_ERROR,  # its text may quote a prompt, which the token does not show
            "counters": newest_calls.read_counters(),
            "calls": newest_calls.read_newest_calls(failed_only=self.failed_only),
            "parallel": capacity.in_flight,
            "max_parallel": capacity.peak,
            "lag_bytes": ShippingState.read().waiting_bytes,
        }


class LogErrorsView(LogView):
    """View of `GET /log_errors`: a plain page with the counters of all calls, and a table of the newest errors."""

    failed_only = True

    @openapi.log_errors
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return await super().get(request)


class RuntimeView(ProxyView):
    """View of `GET /debug/runtime`: the versions of the gateway and its packages, and its limits, without secrets."""

    authentication_classes = (AccessTokenAuthentication,)
    throttle_classes = (PageThrottle,)

    @openapi.runtime
    async def get(self, request: ProxyRequest) -> HttpResponse:
        limits = ("REQUEST_TIMEOUT", "MAX_PARALLEL_REQUESTS", "MAX_BODY_BYTES", "MAX_UPLOAD_BYTES", "MAX_FORM_BYTES")
        others = ("SSE_KEEPALIVE_SECONDS", "WEB_CONCURRENCY", "DEFAULT_MODEL", "OPENAI_BASE_URL")
        packages = ("djangorestframework", "openai", "httptools", "gunicorn", "uvicorn", "psycopg")
        facts = {
            "version": settings.VERSION,
            "python": platform.python_version(),
            "packages": {"django": django.get_version(), **{name: version(name) for name in packages}},
            "limits": {name: getattr(settings, name) for name in (*limits, *others)},
            "calls_in_flight": capacity.in_flight,
        }
        return JsonResponse(facts)
