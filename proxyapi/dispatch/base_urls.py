"""Finds the `/v1` path that a client means when its base URL is wrong or the path is misspelt, for a hint in the 404.

A client appends the path of an endpoint to its base URL. The base URL may have `/v1` twice or not at all, a slash at
its end, `/openai` or `/api` in front, or a whole endpoint in it. The path that arrives can then be recognised by its
end.

A path gets a hint only if it does not begin with a family of routes, such as `/v1/audio`. Behind such a beginning,
misspelt paths (`/v1/audio/transcription`) go to upstream, which may know them.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from proxyapi.exceptions import NotFound
from proxyapi.routes import FAMILIES, LONGEST_PATH, Route, find_route

MAX_SEGMENTS = 16  # of a path. Bounds the work: the rest of the path from each segment on is looked up
# Segments that the base URLs of other servers have in front of the paths of OpenAI's API, such as `/api/v1`.
PREFIXES = frozenset({"v1", "openai", "api"})
LONGEST_MISSPELT_PATH = 100  # characters. Bounds the work as well: each segment is compared with the known ones
LIKENESS = 0.8  # from which a segment of a path may be meant; `difflib` calls equal texts 1.0
SEVERAL = "..."  # in a hint, the rest of a path of which only the beginning is clear
BASE_URL = "The base URL for a client is this gateway's address and /v1, once, with nothing behind it."


def meant_path(raw_path: str) -> str:
    """Returns the path of `/v1` that a client with a wrong base URL probably means: `/v1/models` for `/v1/v1/models`.

    Returns an empty string if `raw_path` is right, or if its meaning is not clear.
    """
    segments = [segment for segment in raw_path.split("/") if segment]
    if len(raw_path) > LONGEST_PATH or len(segments) > MAX_SEGMENTS or ".." in segments or _is_known_endpoint(raw_path):
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


def _is_known_endpoint(raw_path: str) -> bool:
    """Returns whether `raw_path` is a known endpoint, such as `/v1/models`; if so, the client's base URL is right."""
    route = find_route(raw_path.removeprefix("/v1")) if raw_path.startswith("/v1/") else None
    return route is not None and not has_endpoint_twice(route) and _is_known(route)


def _is_known(route: Route) -> bool:
    """Returns whether `route` is a known route of OpenAI's API; the names of unknown routes end with `/*`."""
    # `find_route` also accepts unknown paths below a known one.
    return not route.name.endswith("/*")


def has_endpoint_twice(route: Route) -> bool:
    """Returns whether a path names its endpoint twice, like `/v1/embeddings/embeddings`; never for `/v1/models/…`."""
    if not route.object_id and not route.unknown_segments:
        return False  # nearly all paths end here
    # The client's base URL then ends with the endpoint by mistake. `/v1/models/models/…` is left out: on some servers
    # the ids of models begin with `models/`.
    size = len(route.family.segments)
    return route.segments[:size] == route.segments[size : 2 * size] and route.family.name != "models"


def unknown_endpoint(method: str | None, path: str, raw_path: str, root_path: str) -> NotFound:
    """Creates the 404 error for a path without an endpoint; the message may suggest the path that the client means.

    `root_path` is the prefix under which clients reach the gateway, such as `/ai`, or empty.
    """
    words = f"Unknown endpoint: {method} {path}"
    if raw_path.rstrip("/") == "/v1":
        return NotFound(f"{words}. {BASE_URL} A path such as /models is appended to it.")
    if nearest := nearest_path(raw_path):  # first: the end of a misspelt path may be a path of its own
        return NotFound(f"{words}. Did you mean {root_path}{nearest}?")
    if meant := meant_path(raw_path):
        return NotFound(f"{words}. Did you mean {root_path}{meant}? {BASE_URL}")
    return NotFound(words)


class KnownSegment:
    """A node in the tree of the known paths of `/v1`: one segment of a path.

    `below` has the segments that may follow this one. `is_end` says that a path may end with this segment.
    """

    __slots__ = ("below", "is_end")

    def __init__(self) -> None:
        self.below: dict[str, KnownSegment] = {}
        self.is_end = False


def nearest_path(raw_path: str) -> str:
    """Returns the known path of `/v1` that a client probably means: `/v1/models` for the misspelt `/v1/model`.

    If `raw_path` is the beginning of several known paths, the result ends with `/...`. The result is empty if
    `raw_path` is known itself, or if no known path is similar.
    """
    if not raw_path.startswith("/v1/") or len(raw_path) > LONGEST_MISSPELT_PATH:
        return ""
    node, found = _known_paths(), []
    for segment in raw_path.removeprefix("/v1/").rstrip("/").split("/"):
        name = _nearest_segment(segment, node.below)
        if not name:
            return ""
        node = node.below[name]
        found.append(segment if name == "{id}" else name)
    while not node.is_end and len(node.below) == 1 and "{id}" not in node.below:  # such as `/chat`
        [(name, node)] = node.below.items()
        found.append(name)
    nearest = "/" + "/".join(found)
    route = find_route(nearest)  # None for an id that is no segment, such as `..`
    if not node.is_end:
        return f"/v1{nearest}/{SEVERAL}" if route is not None else ""
    is_new = f"/v1{nearest}" != raw_path.rstrip("/")
    return f"/v1{nearest}" if is_new and route is not None and _is_known(route) else ""


def _nearest_segment(segment: str, known: dict[str, KnownSegment]) -> str:
    """Returns the known segment of a path that a client probably means by `segment`, such as `models` for `model`.

    `known` has the segments that are possible at this place of the path. The first of these that exists is returned:
    the same segment, perhaps in lower case and with `_` for `-`; `{id}`; the most similar segment; an empty text.
    """
    spelt = segment.lower().replace("-", "_")
    if segment in known or spelt in known:
        return segment if segment in known else spelt
    if "{id}" in known:
        return "{id}"
    return next(iter(get_close_matches(spelt, known, n=1, cutoff=LIKENESS)), "")


@cache
def _known_paths() -> KnownSegment:
    """Builds the tree of all known paths of OpenAI's API below `/v1`."""
    root = KnownSegment()
    for family in FAMILIES:
        for path in family.paths:
            node = root
            for segment in path.strip("/").split("/"):
                node = node.below.setdefault(segment, KnownSegment())
            node.is_end = True
    return root
