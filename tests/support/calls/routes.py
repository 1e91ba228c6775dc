"""Paths and methods for tests: one path of every route, and known and unknown methods."""

from __future__ import annotations

import re
from collections.abc import Iterator

import proxyapi.urls

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def routes() -> Iterator[str]:
    """Yields a path for every route of the API, with example ids in it."""
    for route in proxyapi.urls.urlpatterns:
        path = re.sub(r"\(\?P<(response_id|name)>.*?\)", "resp_1", str(route.pattern).strip("^$"))
        yield "/" + path.replace("(?P<path>(?s:.*))", "chat/completions" if path.startswith("v1") else "nowhere")


PATHS = ("/v1/models", "/openai", "/healthz", "/admin/login/", "/static/x", "/my-usage/", "/nothing")
