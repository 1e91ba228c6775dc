"""Adds headers to the responses of pages that tell browsers what a page may load, and where to send cookies.

Cookies are sent only under the root path, so that other applications on the host do not get them. Cookies that were set
over TLS are sent only over TLS.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Pages load from this host only, and run no script that is written inside a page. Two exceptions are for the theme
# (unfold):
# * 'unsafe-eval': the theme's menus use Alpine, which compiles the expressions in its attributes. To use that, an
#   attacker would need to put markup into a page, and templates escape all values.
# * 'unsafe-inline' for styles: the theme sets colours in a <style> of each page, and sizes in style attributes.
CONTENT_SECURITY_POLICY = "; ".join(
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
    """Middleware that adds a Content-Security-Policy to pages without one, and restricts where cookies are sent.

    Browsers send the cookies only under the root path and, if they were set over TLS, only over TLS.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        for cookie in response.cookies.values():
            cookie["path"] = request.META["SCRIPT_NAME"] + cookie["path"]
            if request.is_secure():
                cookie["secure"] = True
        return response
