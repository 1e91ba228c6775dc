"""Owns which ids in upstream's answer belong to objects that the call has made, and how such an id may look.

An answer to a creating call names its object in `id`; some name more: a response its output items and the container of
its code interpreter, a batch the files of its results. The places are those of the SDK's response types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

LONGEST_ID = 512  # bytes; OpenAI's have about 60
MOST_RECORDED = 1000  # ids in one call's journal record

EACH = object()  # in a path: every element of a list
Path = tuple[Any, ...]

# Made by upstream without being asked for by name, and kept also when the response itself is not stored.
CONTAINER: Path = ("output", EACH, "container_id")
AUDIO: tuple[Path, ...] = (
    ("choices", EACH, "message", "audio", "id"),
    ("choices", EACH, "delta", "audio", "id"),
)
UNSTORED = (CONTAINER, *AUDIO)
# By the answer's `object`: where it names other objects that came into being with it.
DERIVED: dict[str, tuple[Path, ...]] = {
    "response": (("output", EACH, "id"), CONTAINER),
    "response.compaction": (("output", EACH, "id"), CONTAINER),
    "chat.completion": AUDIO,
    "chat.completion.chunk": AUDIO,
    "batch": (("output_file_id",), ("error_file_id",)),
    "fine_tuning.job": (("result_files", EACH),),
    "upload": (("file", "id"),),
    "thread.run": (("thread_id",),),
    "thread": (("tool_resources", "file_search", "vector_store_ids", EACH),),
    "assistant": (("tool_resources", "file_search", "vector_store_ids", EACH),),
    "list": (("data", EACH, "id"),),
    "agent.session": (("environment", "id"),),
    "agent.automation.invocation": (("session_id",),),
    "": (("session", "id"),),  # of live sessions and client secrets, whose answer does not say what it is
}
ITEM_EVENTS = {"response.output_item.added", "response.output_item.done"}
# Events with the new object in the member of this name.
OBJECT_EVENTS = {"agent.session.created": "session"}
MAKING_EVENTS = ITEM_EVENTS | set(OBJECT_EVENTS)


def is_object_id(value: Any) -> bool:
    """Whether `value` can be the id of a stored object: 1 to `LONGEST_ID` bytes, without control characters."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
        return False
    if value.isascii():
        return value.isprintable()
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return size <= LONGEST_ID and not any(character < " " or "\x7f" <= character < "\xa0" for character in value)


class MadeObjects:
    """The ids of what one call has made, in the order in which upstream names them.

    `is_creating`: the answer's own `id` is a new object's; a later look at an object only adds the derived ids.
    `is_stored`: upstream keeps the object; if not, only what it keeps all the same is read (`UNSTORED`).
    `lasts`: upstream keeps the objects until they are deleted, and not for some weeks only. `is_in_location`: the
    answer's `Location` names the object (RFC 9110, 10.2.2).
    """

    def __init__(
        self, *, is_creating: bool = True, is_stored: bool = True, lasts: bool = True, is_in_location: bool = False
    ) -> None:
        self.lasts = lasts
        self.is_in_location = is_in_location
        self._is_creating = is_creating
        self._is_stored = is_stored
        self.new: list[str] = []  # read since they were taken last
        self._seen: set[str] = set()

    def read(self, answer: dict[str, Any]) -> None:
        """Reads a whole answer, or the object inside an event."""
        kind = answer.get("object", "")
        if self._is_creating and self._is_stored and kind != "list":
            self._add(answer.get("id"))
        for path in DERIVED.get(kind, ()) if isinstance(kind, str) else ():
            if self._is_stored or path in UNSTORED:
                for value in _values_at(answer, path):
                    self._add(value)

    def read_event(self, event: dict[str, Any]) -> None:
        """Reads one event of a stream."""
        kind, inner = event.get("type"), event.get("response")
        if isinstance(inner, dict):
            self.read(inner)
        elif isinstance(kind, str) and kind in OBJECT_EVENTS:
            if isinstance(made := event.get(OBJECT_EVENTS[kind]), dict):
                self.read(made)
        elif isinstance(kind, str) and kind in ITEM_EVENTS:
            self.read({"object": "response", "output": [event.get("item")]})
        elif isinstance(event.get("object"), str):
            self.read(event)

    def read_location(self, location: str) -> None:
        """Reads a `Location`, whose path ends with the id."""
        self._add(unquote(urlsplit(location).path.rstrip("/").rpartition("/")[2]))

    def take_new(self) -> list[str]:
        """The ids that were read since the last time this was asked."""
        new, self.new = self.new, []
        return new

    def _add(self, value: Any) -> None:
        if is_object_id(value) and value not in self._seen:
            self._seen.add(value)
            self.new.append(value)


def _values_at(value: Any, path: Path) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] is EACH:
        for element in value if isinstance(value, list) else ():
            yield from _values_at(element, path[1:])
    elif isinstance(value, dict):
        yield from _values_at(value.get(path[0]), path[1:])
