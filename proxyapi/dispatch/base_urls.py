"""Owns the hint in a 404 for a client whose base URL is nearly right: which path of `/v1` it meant.

A client appends the path of an endpoint to its base URL. So one that has `/v1` twice or not at all, a slash at its end,
`/openai` or `/api` before it, or a whole endpoint in it, asks for a path that can be recognised by its end.
"""

from __future__ import annotations

from proxyapi.exceptions import NotFound
from proxyapi.routes import LONGEST_PATH, Route, find_route

MOST_SEGMENTS = 16  # of a path; every beginning is tried, for anybody
# What base URLs of other servers have before the paths of OpenAI's API.
PREFIXES = frozenset({"v1", "openai", "api"})
BASE_URL = "The base URL for a client is this gateway's address and /v1, once, with nothing behind it."


def meant_path(raw_path: str) -> str:
    """The path of `/v1` that a request for `raw_path` means, as it came over the wire; empty if that is not clear."""
    segments = [segment for segment in raw_path.split("/") if segment]
    if len(raw_path) > LONGEST_PATH or len(segments) > MOST_SEGMENTS or ".." in segments or _is_right(raw_path):
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
    route = find_route(raw_path.removeprefix("/v1")) if raw_path.startswith("/v1/") else None
    return route is not None and not has_endpoint_twice(route) and _is_known(route)


def _is_known(route: Route) -> bool:
    return not route.name.endswith("/*")


def has_endpoint_twice(route: Route) -> bool:
    """Whether a path goes on with the endpoint that it begins with: that was in the base URL, too.

    Ids of models begin with `models/` on some servers.
    """
    if not route.object_id and not route.unknown_segments:
        return False  # as nearly always
    size = len(route.family.segments)
    return route.segments[:size] == route.segments[size : 2 * size] and route.family.name != "models"


def unknown_endpoint(method: str | None, path: str, raw_path: str, root_path: str) -> NotFound:
    """The 404 for a path that nothing is behind, with a hint if it is clear what was meant.

    `root_path` is what clients have in front of every path, "" for nothing.
    """
    words = f"Unknown endpoint: {method} {path}"
    meant = meant_path(raw_path)
    return NotFound(f"{words}. Did you mean {root_path}{meant}? {BASE_URL}" if meant else words)
