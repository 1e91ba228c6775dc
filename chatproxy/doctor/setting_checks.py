"""Checks of settings whose values are valid, but may be wrong or doubtful on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings

from chatproxy.configuration import setting_parsers, setting_reader
from chatproxy.configuration.misspelt_names import find_misspelt_names
from chatproxy.doctor.finding import Finding, fault, warning
from proxyapi.upstream.proxies import proxy_fault
from proxyapi.upstream.self_calls import is_own_address
from usage.ip_addresses import is_loopback


def check_names() -> Iterator[Finding]:
    """Yields a warning for each unknown variable of an `.env` file, and each misspelt setting in the environment."""
    yield from map(warning, find_misspelt_names())


def check_gunicorn_options() -> Iterator[Finding]:
    """Yields a warning if the environment has options for gunicorn, which take precedence over settings."""
    if os.environ.get("GUNICORN_CMD_ARGS", "").strip():
        yield warning(
            "GUNICORN_CMD_ARGS is in the environment, and its options take precedence over HOST, PORT, WEB_CONCURRENCY "
            "and what else chatproxy tells gunicorn; unset it"
        )


def check_demo_directory() -> Iterator[Finding]:
    """Yields a fault if DATA_DIR is the directory of a demo; `serve` skips this check for `make demo`."""
    if setting_reader.is_demo(os.environ):
        yield fault(
            "DATA_DIR was made by `make demo`, so that .env files, DATABASE_URL, REDIS_URL and *_FILE are ignored; "
            f"name another directory, or delete {setting_reader.DEMO_FILE} in it"
        )


def check_debug() -> Iterator[Finding]:
    """Yields a fault if the setting DEBUG is on; `serve` skips this check for `make dev` and `make demo`."""
    if settings.DEBUG:
        yield fault("DEBUG is true, which only `make dev` and `make demo` start with; unset it")


def check_debug_address() -> Iterator[Finding]:
    """Yields a fault if DEBUG is on and the server listens on an address that other machines can reach."""
    # Such a page shows code, routes and some settings.
    if settings.DEBUG and not is_loopback(settings.HOST):
        yield fault(f"DEBUG is true and HOST {settings.HOST} can be reached by others; 127.0.0.1 or ::1 only")


def check_short_secrets() -> Iterator[Finding]:
    """Yields a warning for each secret that is too short for a server that other machines can reach.

    A server that listens on the loopback address only may have such secrets.
    """
    for name in setting_reader.short_secrets(setting_reader.load()):
        yield warning(f"{name} is short, and so taken on the loopback only; set {setting_parsers.STRONG}")


def check_upstream() -> Iterator[Finding]:
    """Yields a finding if OPENAI_BASE_URL, the upstream's URL, is wrong or doubtful: see `check_upstream_url`."""
    yield from check_upstream_url(settings.OPENAI_BASE_URL, settings.HOST, settings.PORT)


def check_upstream_url(base_url: str, host: str, port: int) -> Iterator[Finding]:
    """Yields a finding if the upstream's URL `base_url` is wrong or doubtful for a server on `host` and `port`.

    It is a fault if the URL is the server's own, or leads through a proxy that cannot be used. A URL without a path
    gets a warning.
    """
    if words := proxy_fault(base_url):
        yield fault(words)
    if is_own_address(base_url, host, port):
        yield fault(
            "OPENAI_BASE_URL is this server's own address, so it would call itself; unset it, or name the provider's "
            "(the address and the key of clients are not for the gateway's own environment)"
        )
    elif not urlsplit(base_url).path:
        # Most servers have the API under `/v1`.
        yield warning(
            "OPENAI_BASE_URL has no path, and most servers have the API under /v1; is /v1 missing at its end?"
        )
