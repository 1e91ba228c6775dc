"""The paths of OpenAI's API on `/v1`: families of routes, which are open or closed, and the name of each route.

A name is the path as OpenAI's reference writes it, with `{id}` for each id. There are few names, so calls can be
counted by them. Any other path below an open family goes to upstream too, under the name `/v1/<family>/*`. The paths
are in `openai_paths.txt`; each belongs to the family whose name it begins with.
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
    """A family of routes, which are opened or closed together."""

    name: str
    open_by_default: bool = True
    # Whether an answer's `usage` is what the call consumed; elsewhere it repeats another call's, or means other things.
    states_usage: bool = True
    takes_forms: bool = False
    # Whether it administers the upstream account, and stores nothing that belongs to one key (`object_access`).
    is_administration: bool = False
    # Whether its lists are the same for everybody, and have no objects of a key in them.
    is_catalogue: bool = False

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.name.split("/"))

    @property
    def paths(self) -> Mapping[str, tuple[str, ...]]:
        """The known paths of the family, with the methods of each."""
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
# What passes to upstream; of a path that is not known any of them may be meant.
METHODS = ("GET", "POST", "DELETE")

LONGEST_PATH = 1024
LONGEST_KEPT_PATH = 200  # what strangers ask for fills no more memory than this
# RFC 3986, 3.3: what a segment of a path may be on the wire.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_UNSAFE = re.compile(r"(?:^|[/\\])\.{0,2}(?:$|[/\\])|[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one call. `name` is its name in the ledger, `path` the path sent to upstream, below its base URL.

    `object_id` is the id of the stored object that the path is about; empty if it is about none, as a list's.
    `unknown_segments` are the segments after the last one that a known path of the family has; empty below an object.
    """

    family: Family
    name: str
    path: str
    segments: tuple[str, ...]  # of the path, decoded
    object_id: str = ""
    unknown_segments: tuple[str, ...] = ()

    @property
    def last_id(self) -> str:
        """The last segment of the path, decoded."""
        return self.segments[-1]

    @property
    def is_collection(self) -> bool:
        """True if a GET of the route returns a list of the family's objects, or might."""
        has_objects = not self.family.is_catalogue and not self.family.is_administration
        return has_objects and not self.object_id and not self.unknown_segments

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods that OpenAI's API has on this route."""
        return self.family.paths.get(self.name.removeprefix("/v1"), METHODS)

    @property
    def model_id(self) -> str:
        """The model that the path names, which may contain slashes; empty if it names none."""
        return "/".join(self.segments[1:]) if self.family.name == "models" else ""


def find_route(raw_path: str) -> Route | None:
    """Returns the route of a path below `/v1`, given as it came over the wire; None if no family has it.

    A path that could be read as another one (`..`, also as `%2e%2e`, `//`, and parameters as in `a;b=c`) has no route.
    Upstream gets the path unchanged. The name is that of the decoded path: needless escapes such as `%61` and a `/` at
    the end make no difference.
    """
    if len(raw_path) <= LONGEST_KEPT_PATH:
        return _find_kept_route(raw_path)
    return _find_route(raw_path) if len(raw_path) <= LONGEST_PATH else None


@lru_cache(maxsize=1024)
def _find_kept_route(raw_path: str) -> Route | None:
    """Returns the route of a path, as `_find_route` does, from a cache."""
    return _find_route(raw_path)


def _find_route(raw_path: str) -> Route | None:
    """Follows a path through the tree of known paths."""
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
    """Returns whether a segment can be read in one way only."""
    decoded = unquote(segment)
    return bool(_SEGMENT.fullmatch(segment)) and not _UNSAFE.search(decoded) and ";" not in decoded


def _parent(segments: tuple[str, ...]) -> Family | None:
    """Returns the family whose name the path begins with; None if there is none."""
    return next((family for family in FAMILIES if segments[: len(family.segments)] == family.segments), None)


def _read_paths() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Reads `openai_paths.txt`: the methods of each path, by family and path."""
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
    """A segment in the tree of known paths: the segments below it, and the family and name of a path that ends here."""

    below: dict[str, _Node] = field(default_factory=dict)
    family: Family | None = None
    name: str = ""


def _tree() -> _Node:
    """Builds the tree of known paths, and returns its root."""
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
