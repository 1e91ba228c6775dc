"""Owns what the admin's answers tell browsers: what a page may load and do, and where cookies go.

Cookies stay on TLS, and under the root path: other applications of the host do not get them.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Everything from here, nothing from elsewhere, no script inside a page. Two things stay open, for the theme (unfold):
# * 'unsafe-eval': its menus are Alpine, which compiles the expressions in its attributes. To use that, an attacker
#   needs markup of his own in a page, and templates escape all values.
# * 'unsafe-inline' for styles: it sets colours in a <style> of each page, and sizes in style attributes.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class AdminHeaders:
    """Middleware. Pages with a policy of their own keep it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        for cookie in response.cookies.values():
            cookie["path"] = request.META["SCRIPT_NAME"] + cookie["path"]
            if request.is_secure():
                cookie["secure"] = True
        return response
