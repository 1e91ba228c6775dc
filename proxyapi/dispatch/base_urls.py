"""Finds the path of `/v1` that a client with a wrong base URL means, for the hint in its 404.

A client appends the path of an endpoint to its base URL. If the base URL has `/v1` twice or not at all, a slash at its
end, `/openai` or `/api` in front, or a whole endpoint in it, the path that arrives can be recognised by its end.
"""

from __future__ import annotations

from proxyapi.exceptions import NotFound
from proxyapi.routes import LONGEST_PATH, Route, find_route

MAX_SEGMENTS = 16  # of a path. Bounds the work: the rest of the path from each segment on is looked up
# Segments that the base URLs of other servers have in front of the paths of OpenAI's API, such as `/api/v1`.
PREFIXES = frozenset({"v1", "openai", "api"})
BASE_URL = "The base URL for a client is this gateway's address and /v1, once, with nothing behind it."


def meant_path(raw_path: str) -> str:
    """Guesses which path of `/v1` a client with a wrong base URL means when it requests `raw_path`.

    Returns an empty string if that is not clear, or if `raw_path` is right. Both paths are as they come over the wire.
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
    """Returns whether `raw_path` is the path of a known endpoint, so that the client's base URL is not wrong."""
    route = find_route(raw_path.removeprefix("/v1")) if raw_path.startswith("/v1/") else None
    return route is not None and not has_endpoint_twice(route) and _is_known(route)


def _is_known(route: Route) -> bool:
    """Returns whether OpenAI's API is known to have the path of this route.

    `find_route` also accepts unknown paths below a known one; the names of their routes end with `/*`.
    """
    return not route.name.endswith("/*")


def has_endpoint_twice(route: Route) -> bool:
    """Returns whether a path names its endpoint twice, like `/v1/embeddings/embeddings`.

    The client's base URL then ends with the endpoint by mistake. Paths below `models/` are never reported, because on
    some servers the ids of models begin with `models/`.
    """
    if not route.object_id and not route.unknown_segments:
        return False  # nearly all paths end here
    size = len(route.family.segments)
    return route.segments[:size] == route.segments[size : 2 * size] and route.family.name != "models"


def unknown_endpoint(method: str | None, path: str, raw_path: str, root_path: str) -> NotFound:
    """Returns the 404 error for a request to a path without an endpoint, with a hint if it is clear what is meant.

    `root_path` is what clients have in front of every path of the gateway, such as `/ai`; it may be empty.
    """
    words = f"Unknown endpoint: {method} {path}"
    meant = meant_path(raw_path)
    return NotFound(f"{words}. Did you mean {root_path}{meant}? {BASE_URL}" if meant else words)
