"""The views that need no key: the front page, `/healthz`, `/readyz`, and the answer to unknown paths."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse, JsonResponse

from proxyapi import openapi
from proxyapi.call.call_request import ProxyRequest
from proxyapi.call.capacity import capacity
from proxyapi.dispatch.base_urls import unknown_endpoint
from proxyapi.dispatch.base_view import ProxyView
from proxyapi.keys.keyring import keyring
from proxyapi.limits.limiter import limiter
from proxyapi.pages.page_headers import page_response, render
from proxyapi.streams.chat_usage_request import usage_requests
from usage.ledger import ledger
from usage.live.shipping_state import NOT_RUNNING, ShippingState
from usage.money.reservations import reservations


class IndexView(ProxyView):
    """View of `GET /`: the gateway's front page, which needs no key."""

    @openapi.index
    async def get(self, request: ProxyRequest) -> HttpResponse:
        facts = {"version": settings.VERSION, "upstream_key": bool(settings.OPENAI_API_KEY)}
        return page_response(render(request.call_request, "index.html", facts))


class LivenessView(ProxyView):
    """View of `GET /healthz`: shows that this process answers; asks neither the database nor upstream."""

    @openapi.liveness
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return JsonResponse({"status": "ok", "version": settings.VERSION})


class ReadinessView(ProxyView):
    """View of `GET /readyz`: status 200 if this server should get calls, 503 if not.

    With status 200, `degraded` means that calls go on although something is down: the database, Redis, or the process
    that copies the journal to the database. A web page of another origin gets no details.
    """

    @openapi.readiness
    async def get(self, request: ProxyRequest) -> HttpResponse:
        ready = keyring.loaded and not capacity.stopping and not ledger.journal.full
        shipping = ShippingState.read()
        faults = (shipping.database_fault, shipping.shipper_fault, limiter.degraded, reservations.fault)
        degraded = keyring.state != "loaded" or any(faults)
        facts = {
            "status": "unavailable" if not ready else "degraded" if degraded else "ok",
            "keys": keyring.state,
            "draining": capacity.stopping,
            "journal": "full" if ledger.journal.full else "ok",
            "journal_lag_bytes": shipping.waiting_bytes,
            "database": shipping.database_fault or ("unknown" if shipping.shipper_fault == NOT_RUNNING else "ok"),
            "shipper": shipping.shipper_fault or "ok",
            "limits": limiter.state,
            "budgets": reservations.fault or "ok",
            "stream_usage": usage_requests.state,
        }
        if "HTTP_ORIGIN" in request.META:
            facts = {"status": facts["status"]}
        return JsonResponse(facts, status=200 if ready else 503, headers={} if ready else {"Retry-After": "1"})


class NotFoundView(ProxyView):
    """View that answers 404 to every path without a view of its own, whatever the method."""

    http_method_names = ["get", "post", "put", "patch", "delete", "head", "options", "trace"]  # noqa: RUF012  (Django's attribute)

    @openapi.unlisted
    async def get(self, request: ProxyRequest, path: str) -> HttpResponse:
        call = request.call_request
        raise unknown_endpoint(request.method, f"/{path}", call.raw_path.decode("ascii", "replace"), call.root_path)

    post = put = patch = delete = trace = get

    async def admit(self, request: ProxyRequest) -> None:
        """Accepts every request, with any body and without a key: the answer is 404 anyway."""
