"""The root path: the path prefix under which clients reach the gateway, such as `/ai` in `https://host/ai/`.

The root path is the setting `ROOT_PATH` or, if that is not set, the header `X-Forwarded-Prefix` of a trusted proxy. A
proxy may remove the root path before it passes a request on, or leave it there; in that case it is removed here. All
later code, above all the code that decides about permissions, sees the path without the root path. Code that makes
links puts it in front again (`root_path_of`).

Invariant: a root path is a plain path of this host (`normal_root_path`), so no link or redirect leads to another host.
Its first segment is none of the gateway's own (`OWN_NAMES`), since `/v1/v1/models` could be read in two ways.
"""

from __future__ import annotations

import logging
import re
import time

from asgiref.typing import HTTPScope

from proxyapi.call.caller_connection import connection_of, root_path_of

logger = logging.getLogger(__name__)

HEADER = b"x-forwarded-prefix"
MAX_LENGTH = 200  # characters
# Letters, digits, and characters without a special meaning in a URL's path, a Cookie's Path, HTML or a shell.
PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~@+-]+)+")
# The first segments of the gateway's own paths.
OWN_NAMES = frozenset(
    {
        "admin", "api", "chatgpt", "debug", "docs", "embeddings", "health", "health2", "healthz", "log", "log_errors",
        "metrics", "my-usage", "openai", "openai2", "openapi.json", "readyz", "static", "usage", "v1",
    }
)  # fmt: skip
WARNING_SECONDS = 60.0


def normal_root_path(text: str) -> str:
    """Checks a path prefix such as `/ai`, and returns it without a slash at its end: "" for `/`.

    Raises:
        ValueError: `text` is no plain path, or its first segment is one of the gateway's own (`OWN_NAMES`), such as
            `v1`; the message says what is allowed.
    """
    path = text.removesuffix("/")
    segments = path.split("/")[1:]
    has_dots_alone = any(not segment.strip(".") for segment in segments)
    if len(path) > MAX_LENGTH or has_dots_alone or (path and not PLAIN_PATH.fullmatch(path)):
        raise ValueError("is no plain path; a slash, then letters, digits and . _ ~ @ + -, for example /ai")
    if segments and segments[0] in OWN_NAMES:
        raise ValueError("begins as a path of the gateway's own; another one, for example /ai")
    return path


class RootPath:
    """The gateway's root path: a path prefix such as `/ai`, which `strip` removes from the paths of requests.

    `configured` is the setting ROOT_PATH. If it is None, a trusted proxy states the root path in `X-Forwarded-Prefix`.
    """

    def __init__(self, configured: str | None) -> None:
        self._configured = configured
        self._warned_at = -WARNING_SECONDS

    def strip(self, scope: HTTPScope) -> HTTPScope:
        """Returns a request's ASGI scope with the root path, such as `/ai`, removed from the path and recorded.

        If the request has no root path, the same scope is returned.
        """
        root_path = self._configured
        if root_path is None:
            root_path = self._forwarded(scope) if connection_of(scope).is_trusted_proxy else ""
        return with_root_path(scope, root_path) if root_path else scope

    def _forwarded(self, scope: HTTPScope) -> str:
        """Returns the root path in a trusted proxy's `X-Forwarded-Prefix`; "" if the header is missing or malformed."""
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == HEADER]
        if not values:
            return ""
        try:
            return normal_root_path(", ".join(values))
        except ValueError as fault:
            now = time.monotonic()
            if now - self._warned_at >= WARNING_SECONDS:
                self._warned_at = now
                logger.warning("the X-Forwarded-Prefix of a trusted proxy was ignored: it %s", fault)
            return ""


def with_root_path(scope: HTTPScope, root_path: str) -> HTTPScope:
    """Returns a copy of a request's ASGI scope whose `path` and `raw_path` do not begin with `root_path`.

    `root_path` and the connection are stored in `scope["extensions"]["chatproxy"]`, not in the scope's own `root_path`.
    If a proxy has removed the root path already, the paths stay as they are. The Cookie headers are reversed
    (`own_cookies_last`), so that Django prefers the gateway's cookies to another application's with the same name.
    """
    path, raw_path = scope["path"], scope["raw_path"]
    # Both forms of the path begin alike: nothing in a root path needs to be percent-encoded.
    encoded = root_path.encode()
    if raw_path == encoded or raw_path.startswith(encoded + b"/"):
        path, raw_path = path[len(root_path) :] or "/", raw_path[len(encoded) :] or b"/"
    return {
        **scope,
        "path": path,
        "raw_path": raw_path,
        "headers": [
            (name, own_cookies_last(value) if name == b"cookie" else value) for name, value in scope["headers"]
        ],
        "extensions": {"chatproxy": {"connection": connection_of(scope), "root_path": root_path}},
    }


def own_cookies_last(header: bytes) -> bytes:
    """Returns a Cookie header with its cookies in reverse order, so that the gateway's own cookies come last.

    If two cookies have the same name, Django reads the last one.
    """
    # Another application may have set the other one for the whole host. Browsers send the cookies with the longest path
    # first (RFC 6265, 5.4), and Django takes the last one.
    return b"; ".join(pair.strip() for pair in reversed(header.split(b";")))


def django_scope(scope: HTTPScope) -> dict[str, object]:
    """Returns a copy of a request's scope for Django: its paths begin with the root path."""
    root_path = root_path_of(scope)
    if not root_path:
        return dict(scope)
    # Django also reads the root path by itself from the scope, as the script name.
    path, raw_path = root_path + scope["path"], root_path.encode() + scope["raw_path"]
    return {**scope, "root_path": root_path, "path": path, "raw_path": raw_path}
