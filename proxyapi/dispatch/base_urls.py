"""Finds the path of `/v1` that a client with a wrong base URL means, for the hint in its 404.

A client appends the path of an endpoint to its base URL. If the base URL has `/v1` twice or not at all, a slash at its
end, `/openai` or `/api` in front, or a whole endpoint in it, the path that arrives can be recognised by its end.
"""

from __future__ import annotations

from proxyapi.exceptions import NotFound
from proxyapi.routes import LONGEST_PATH, Route, find_route

MAX_SEGMENTS = 16  # of a path: bounds the work for a stranger, since the path is looked up from each of its segments on
# What the base URLs of other servers have in front of the paths of OpenAI's API.
PREFIXES = frozenset({"v1", "openai", "api"})
BASE_URL = "The base URL for a client is this gateway's address and /v1, once, with nothing behind it."


def meant_path(raw_path: str) -> str:
    """Returns the path of `/v1` that a request for `raw_path` means; empty if that is not clear.

    Both paths are as they come over the wire.
    """
    segments = [segment for segment in raw_path.split("/") if segment]
    if len(raw_path) > LONGEST_PATH or len(segments) > MAX_SEGMENTS or ".." in segments or _is_right(raw_path):
        return ""
    for start in range(len(segments)):
        path = "/" + "/".join(segments[start:])
        route = find_route(path)
        if route is None or has_endpoint_twice(route):
            continue
        before = {segment.lower() for segment in segments[:start]}
        if _is_known(route) or before <= PREFIXES:
            return f"/v1{path}"
    return ""


def _is_right(raw_path: str) -> bool:
    """Returns whether a path is that of a known endpoint already, so that nothing else is meant."""
    route = find_route(raw_path.removeprefix("/v1")) if raw_path.startswith("/v1/") else None
    return route is not None and not has_endpoint_twice(route) and _is_known(route)


def _is_known(route: Route) -> bool:
    """Returns whether OpenAI's API has this very path; `find_route` accepts every path below a family."""
    return not route.name.endswith("/*")


def has_endpoint_twice(route: Route) -> bool:
    """Returns whether a path names its endpoint twice, because the base URL has it, too.

    Paths below `models/` may do so: on some servers the ids of models begin with `models/`.
    """
    if not route.object_id and not route.unknown_segments:
        return False  # as nearly always
    size = len(route.family.segments)
    return route.segments[:size] == route.segments[size : 2 * size] and route.family.name != "models"


def unknown_endpoint(method: str | None, path: str, raw_path: str, root_path: str) -> NotFound:
    """Returns the 404 for a path without an endpoint, with a hint if it is clear which one is meant.

    `root_path` is what clients have in front of every path; empty for nothing.
    """
    words = f"Unknown endpoint: {method} {path}"
    meant = meant_path(raw_path)
    return NotFound(f"{words}. Did you mean {root_path}{meant}? {BASE_URL}" if meant else words)
