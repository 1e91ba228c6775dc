"""Owns which paths of OpenAI's API there are on `/v1`: families of routes, open or closed, and each path's name.

A name is the path as OpenAI's reference writes it, with `{id}` for each id: there are few of them, so they can be
counted by. Anything else below an open family goes to upstream as well, under the name `/v1/<family>/*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Family:
    """Routes that are opened together. `paths` are those of the API reference, as of the SDK's resources."""

    name: str
    paths: tuple[str, ...]
    open_by_default: bool = True
    # Whether an answer's `usage` is what the call consumed; elsewhere it repeats another call's, or means other things.
    states_usage: bool = True
    takes_forms: bool = False

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.name.split("/"))


FAMILIES = (
    Family(
        "chat/completions",
        ("/chat/completions", "/chat/completions/{id}", "/chat/completions/{id}/messages"),
    ),
    Family(
        "responses",
        (
            "/responses", "/responses/compact", "/responses/input_tokens", "/responses/{id}", "/responses/{id}/cancel",
            "/responses/{id}/input_items",
        ),
    ),
    Family(
        "conversations",
        ("/conversations", "/conversations/{id}", "/conversations/{id}/items", "/conversations/{id}/items/{id}"),
        states_usage=False,
    ),
    Family("embeddings", ("/embeddings",)),
    Family(
        "audio",
        (
            "/audio/speech", "/audio/transcriptions", "/audio/translations", "/audio/voices", "/audio/voices/{id}",
            "/audio/voice_consents", "/audio/voice_consents/{id}",
        ),
        takes_forms=True,
    ),
    Family(
        "images",
        ("/images/generations", "/images/edits", "/images/variations"),
        takes_forms=True,
    ),
    Family("moderations", ("/moderations",)),
    Family("models", ("/models", "/models/{id}"), states_usage=False),
    Family(
        "files",
        ("/files", "/files/{id}", "/files/{id}/content"),
        open_by_default=False,
        states_usage=False,
        takes_forms=True,
    ),
    Family(
        "vector_stores",
        (
            "/vector_stores", "/vector_stores/{id}", "/vector_stores/{id}/search", "/vector_stores/{id}/files",
            "/vector_stores/{id}/files/{id}", "/vector_stores/{id}/files/{id}/content",
            "/vector_stores/{id}/file_batches", "/vector_stores/{id}/file_batches/{id}",
            "/vector_stores/{id}/file_batches/{id}/cancel", "/vector_stores/{id}/file_batches/{id}/files",
        ),
        open_by_default=False,
        states_usage=False,
    ),
    Family("batches", ("/batches", "/batches/{id}", "/batches/{id}/cancel"), open_by_default=False, states_usage=False),
    Family(
        "uploads",
        ("/uploads", "/uploads/{id}/parts", "/uploads/{id}/complete", "/uploads/{id}/cancel"),
        open_by_default=False,
        states_usage=False,
        takes_forms=True,
    ),
    Family(
        "fine_tuning",
        (
            "/fine_tuning/jobs", "/fine_tuning/jobs/{id}", "/fine_tuning/jobs/{id}/cancel",
            "/fine_tuning/jobs/{id}/pause", "/fine_tuning/jobs/{id}/resume", "/fine_tuning/jobs/{id}/events",
            "/fine_tuning/jobs/{id}/checkpoints", "/fine_tuning/checkpoints/{id}/permissions",
            "/fine_tuning/checkpoints/{id}/permissions/{id}", "/fine_tuning/alpha/graders/run",
            "/fine_tuning/alpha/graders/validate",
        ),
        open_by_default=False,
        states_usage=False,
    ),
    Family("assistants", ("/assistants", "/assistants/{id}"), open_by_default=False, states_usage=False),
    Family(
        "threads",
        (
            "/threads", "/threads/{id}", "/threads/runs", "/threads/{id}/messages", "/threads/{id}/messages/{id}",
            "/threads/{id}/runs", "/threads/{id}/runs/{id}", "/threads/{id}/runs/{id}/cancel",
            "/threads/{id}/runs/{id}/submit_tool_outputs", "/threads/{id}/runs/{id}/steps",
            "/threads/{id}/runs/{id}/steps/{id}",
        ),
        open_by_default=False,
        states_usage=False,
    ),
)  # fmt: skip
DEFAULT = tuple(family.name for family in FAMILIES if family.open_by_default)
ALL = tuple(family.name for family in FAMILIES)

LONGEST_PATH = 1024
# RFC 3986, 3.3: what a segment of a path may be on the wire.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_UNSAFE = re.compile(r"(?:^|[/\\])\.{0,2}(?:$|[/\\])|[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes. `name` is the ledger's word for it, `path` is what upstream gets below its base URL.

    `object_id` is the id of the stored object that the path is about; empty if it is about none, as a list's.
    `unknown_segments` are those at which no path of the family could be followed further; not below an object.
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
        """Whether a GET of it answers with a list of the family's objects, or may do so."""
        return not self.object_id and not self.unknown_segments and self.family.name != "models"

    @property
    def model_id(self) -> str:
        """The model that the path is about, which may have slashes in it; empty if it is about none."""
        return "/".join(self.segments[1:]) if self.family.name == "models" else ""


def find_route(raw_path: str) -> Route | None:
    """The route of a path below `/v1`, as it came over the wire; None if no family has it.

    What could be read as another path (`..`, also as `%2e%2e`, `//`, and parameters as in `a;b=c`) has none. Upstream
    gets the path as it came; the name is of what upstream may read in it: letters that need no `%61` have one name,
    with a `/` at the end or not.
    """
    return _find_route(raw_path) if len(raw_path) <= LONGEST_PATH else None


@lru_cache(maxsize=1024)
def _find_route(raw_path: str) -> Route | None:
    raw_segments = raw_path.removeprefix("/").removesuffix("/").split("/")
    if not all(map(_is_safe, raw_segments)):
        return None
    segments = tuple(map(unquote, raw_segments))
    node: dict[str, Any] = _TREE
    object_id, followed = "", 0
    for segment in segments:
        if (found := node.get(segment)) is None:
            if (found := node.get("{id}")) is None:
                break
            object_id = object_id or segment
        node, followed = found, followed + 1
    if followed == len(segments) and "" in node:
        family, name = node[""]
        return Route(family, name, raw_path, segments, object_id)
    parent = next((family for family in FAMILIES if segments[: len(family.segments)] == family.segments), None)
    if parent is None:
        return None
    unknown = () if object_id else segments[max(followed, len(parent.segments)) :]
    return Route(parent, f"/v1/{parent.name}/*", raw_path, segments, object_id, unknown)


def _is_safe(segment: str) -> bool:
    decoded = unquote(segment)
    return bool(_SEGMENT.fullmatch(segment)) and not _UNSAFE.search(decoded) and ";" not in decoded


def _tree() -> dict[str, Any]:
    """The paths by their segments; under `""` the family and the name of a path that ends there."""
    tree: dict[str, Any] = {}
    for family in FAMILIES:
        for path in family.paths:
            node = tree
            for segment in path.strip("/").split("/"):
                node = node.setdefault(segment, {})
            node[""] = (family, f"/v1{path}")
    return tree


_TREE = _tree()
