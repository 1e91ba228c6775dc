"""Owns how a page of ours outside the admin is answered: what a browser may load for it, keep of it and tell others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.urls import get_script_prefix, set_script_prefix

from proxyapi.call.call_request import CallRequest

# As the admin's, without what its theme needs; Swagger UI's pictures are in its style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The last two are said by Django's middleware, too, but these pages do not pass it.
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page(html: str) -> HttpResponse:
    return HttpResponse(html, headers=PAGE_HEADERS)


def render(request: CallRequest, template: str, facts: Mapping[str, Any] | None = None) -> str:
    """Returns the template's HTML, whose links begin with the path under which the client reaches the gateway."""
    before = get_script_prefix()
    set_script_prefix(f"{request.root_path}/")
    try:
        return render_to_string(template, facts)
    finally:
        set_script_prefix(before)
