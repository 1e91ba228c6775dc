"""The paths of OpenAI's API on `/v1`: the families of routes, which settings open or close, and each route's name.

The name of a route is its path as OpenAI's reference writes it, with `{id}` for each id. There are few names, so calls
can be counted by them. Other paths that begin with the name of an open family go to upstream too, under the name
`/v1/<family>/*`. The paths of the reference are in `openai_paths.txt`; the beginning of a path is the name of its
family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote


@dataclass(frozen=True)
class Family:
    """A family of routes of `/v1`, such as `files`, which are opened or closed together in the settings."""

    name: str
    open_by_default: bool = True
    # Whether the `usage` in an answer is what the call has used; in other families it repeats another call's usage, or
    # means something else.
    states_usage: bool = True
    takes_forms: bool = False
    # Whether the family administers the upstream account, and stores nothing that belongs to one key
    # (`ownership_check`).
    is_administration: bool = False
    # Whether the family's lists are the same for all keys, because they have no objects of a key in them.
    is_catalogue: bool = False

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.name.split("/"))

    @property
    def paths(self) -> Mapping[str, tuple[str, ...]]:
        """The family's paths in OpenAI's reference, as a dict from path to HTTP methods."""
        return _PATHS[self.name]


_closed = partial(Family, open_by_default=False)
FAMILIES = (
    Family("chat/completions"),
    Family("responses"),
    Family("conversations", states_usage=False),
    Family("embeddings"),
    Family("audio", takes_forms=True),
    Family("images", takes_forms=True),
    Family("moderations"),
    Family("models", states_usage=False, is_catalogue=True),
    _closed("files", states_usage=False, takes_forms=True),
    _closed("vector_stores", states_usage=False),
    _closed("batches", states_usage=False),
    _closed("uploads", states_usage=False, takes_forms=True),
    _closed("fine_tuning", states_usage=False),
    _closed("assistants", states_usage=False),
    _closed("threads", states_usage=False),
    _closed("completions"),
    _closed("containers", states_usage=False, takes_forms=True),
    _closed("videos", states_usage=False, takes_forms=True),
    _closed("skills", states_usage=False, takes_forms=True),
    _closed("evals", states_usage=False),
    _closed("realtime", states_usage=False, takes_forms=True),
    _closed("live", states_usage=False),
    _closed("agents", states_usage=False),
    _closed("vaults", states_usage=False),
    _closed("chatkit", states_usage=False),
    _closed("decisions"),
    _closed("content_provenance_checks", takes_forms=True),
    _closed("safety", states_usage=False),
    _closed("webhook_endpoints", states_usage=False),
    _closed("webhook_event_types", states_usage=False, is_catalogue=True),
    _closed("organization", states_usage=False, is_administration=True),
    _closed("projects", states_usage=False, is_administration=True),
)
DEFAULT = tuple(family.name for family in FAMILIES if family.open_by_default)
ALL = tuple(family.name for family in FAMILIES)
# The methods that are sent upstream. A path that is not in OpenAI's reference may have any of them.
METHODS = ("GET", "POST", "DELETE")

LONGEST_PATH = 1024
LONGEST_KEPT_PATH = 200  # in the cache; senders without a key can fill it, so longer paths are not cached
# RFC 3986, 3.3: the characters that a segment of a path may have as it comes over the wire.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_UNSAFE = re.compile(r"(?:^|[/\\])\.{0,2}(?:$|[/\\])|[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Route:
    """The route of OpenAI's API that a call uses, found by the call's path below `/v1`.

    * `name`: the route in the ledger, such as `/v1/files/{id}`.
    * `path`: the path for the request to upstream, below upstream's base URL.
    * `object_id`: the id of the stored object in the path, or empty.
    * `unknown_segments`: the end of a path that OpenAI's reference does not have, from the first unknown segment on.
      Empty for a path in the reference, and for a path with an `object_id`.
    """

    family: Family
    name: str
    path: str
    segments: tuple[str, ...]  # of the path, decoded
    object_id: str = ""
    unknown_segments: tuple[str, ...] = ()

    @property
    def last_id(self) -> str:
        """The last segment of the route's path, decoded: `resp_1` for `/responses/resp_1`."""
        return self.segments[-1]

    @property
    def is_known(self) -> bool:
        """True if OpenAI's reference has the route's path."""
        return self.name.removeprefix("/v1") in self.family.paths

    @property
    def is_collection(self) -> bool:
        """True if a GET of this route may return a list of stored objects, such as `/v1/files`."""
        has_objects = not self.family.is_catalogue and not self.family.is_administration
        return has_objects and not self.object_id and not self.unknown_segments

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods of this route in OpenAI's API; GET, POST and DELETE for an unknown route."""
        return self.family.paths.get(self.name.removeprefix("/v1"), METHODS)

    @property
    def model_id(self) -> str:
        """The id of the model in the route's path, which may have slashes; empty outside of the family `models`."""
        return "/".join(self.segments[1:]) if self.family.name == "models" else ""


def find_route(raw_path: str) -> Route | None:
    """Returns the route of a call, or None. `raw_path` is the call's path below `/v1`, as the client sent it.

    Other spellings of a path, such as `/f%69les` and `/files/` for `/files`, have the same route. The result is None if
    the path belongs to no family, is longer than `LONGEST_PATH`, or may be read by servers in two ways, such as
    `/files/../models` or `/files//x`.
    """
    if len(raw_path) <= LONGEST_KEPT_PATH:
        return _find_kept_route(raw_path)
    return _find_route(raw_path) if len(raw_path) <= LONGEST_PATH else None


@lru_cache(maxsize=1024)
def _find_kept_route(raw_path: str) -> Route | None:
    """Returns the route of a path below `/v1`, or None; caches the routes of the most recently used paths."""
    return _find_route(raw_path)


def _find_route(raw_path: str) -> Route | None:
    """Returns the route of a path below `/v1`, or None.

    A path that OpenAI's reference does not have gets the route `/v1/<family>/*` of its family. The result is None if
    the path belongs to no family, or if servers may read it in two ways.
    """
    raw_segments = raw_path.removeprefix("/").removesuffix("/").split("/")
    if not all(map(_is_safe, raw_segments)):
        return None
    segments = tuple(map(unquote, raw_segments))
    node = _TREE
    object_id, followed = "", 0
    for segment in segments:
        if (found := node.below.get(segment)) is None:
            if (found := node.below.get("{id}")) is None:
                break
            object_id = object_id or segment
        node, followed = found, followed + 1
    if followed == len(segments) and node.family is not None:
        return Route(node.family, node.name, raw_path, segments, object_id)
    parent = _parent(segments)
    if parent is None:
        return None
    unknown = () if object_id else segments[max(followed, len(parent.segments)) :]
    return Route(parent, f"/v1/{parent.name}/*", raw_path, segments, object_id, unknown)


def _is_safe(segment: str) -> bool:
    """Returns whether all servers read this segment of a path in the same way; False for `..` or an escaped `/`."""
    decoded = unquote(segment)
    return bool(_SEGMENT.fullmatch(segment)) and not _UNSAFE.search(decoded) and ";" not in decoded


def _parent(segments: tuple[str, ...]) -> Family | None:
    """Returns the family of routes to which a path belongs, by its first segments; None if there is none."""
    return next((family for family in FAMILIES if segments[: len(family.segments)] == family.segments), None)


def _read_paths() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Reads `openai_paths.txt`; returns for each family a dict from path to HTTP methods."""
    paths: dict[str, dict[str, tuple[str, ...]]] = {family.name: {} for family in FAMILIES}
    for line in Path(__file__).with_name("openai_paths.txt").read_text("ascii").splitlines():
        if line.startswith("/"):
            path, *methods = line.split()
            family = _parent(tuple(path.strip("/").split("/")))
            assert family is not None, path  # noqa: S101  (the file is a part of the code)
            paths[family.name][path] = tuple(methods)
    return MappingProxyType(paths)


@dataclass
class _Node:
    """A node in the tree of all paths in OpenAI's reference: one segment of a path.

    `below` maps the segments that may follow to their nodes. If a path ends at this node, `family` and `name` are those
    of the path's route.
    """

    below: dict[str, _Node] = field(default_factory=dict)
    family: Family | None = None
    name: str = ""


def _tree() -> _Node:
    """Builds the tree of the paths in OpenAI's reference, and returns its root."""
    tree = _Node()
    for family in FAMILIES:
        for path in family.paths:
            node = tree
            for segment in path.strip("/").split("/"):
                node = node.below.setdefault(segment, _Node())
            node.family, node.name = family, f"/v1{path}"
    return tree


_PATHS = _read_paths()
_TREE = _tree()
