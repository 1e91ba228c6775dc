"""The security headers of the pages outside of the admin: what browsers may load, store, and tell other sites."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.urls import get_script_prefix, set_script_prefix

from proxyapi.call.call_request import CallRequest

# The admin's policy, without the exceptions that its theme needs. `data:` is for Swagger UI, whose style sheet contains
# pictures.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The last two are also added by Django's middleware, but these pages do not pass through it.
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page_response(html: str) -> HttpResponse:
    """Returns a response with this HTML, and with the security headers of pages outside of the admin."""
    return HttpResponse(html, headers=PAGE_HEADERS)


def render(request: CallRequest, template: str, context: Mapping[str, object] | None = None) -> str:
    """Renders a template as HTML; links in it begin with the path prefix under which clients reach the gateway."""
    before = get_script_prefix()
    set_script_prefix(f"{request.root_path}/")
    try:
        return render_to_string(template, context)
    finally:
        set_script_prefix(before)
