"""Checks of the way to upstream that only `doctor` makes. No request is sent, so the upstream key is not tried.

A start does not make them: it could wait for DNS, and its banner says whether there is a key.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings

from chatproxy.doctor.finding import Finding, Level, warning
from proxyapi.upstream.proxies import environment_proxy


def check_upstream_host() -> Iterator[Finding]:
    """Yields a warning if the host name in OPENAI_BASE_URL cannot be resolved; otherwise a finding that it is known.

    If the environment names a proxy for upstream, the proxy's host name is resolved instead. No connection is tried,
    and the finding says so.
    """
    url = urlsplit(settings.OPENAI_BASE_URL)
    proxy = environment_proxy(settings.OPENAI_BASE_URL)
    host = (proxy or url).hostname or ""
    place = "the proxy for upstream" if proxy else "OPENAI_BASE_URL"
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no host name"
        yield warning(f"the host {host} of {place} is unknown here ({reason}), so calls get 502; check it, and DNS")
    else:
        yield Finding(Level.OK, f"{host} of {place} is known; no connection was tried")


def check_upstream_key() -> Iterator[Finding]:
    """Yields a warning if OPENAI_API_KEY is not set; otherwise a finding that it is set, but was not tried.

    No request is sent to upstream.
    """
    if settings.OPENAI_API_KEY:
        yield Finding(Level.OK, "OPENAI_API_KEY is set; whether upstream takes it was not tried")
    else:
        yield warning(
            "OPENAI_API_KEY is not set, so calls get 503 unless they, their key or its team have an upstream key"
        )
