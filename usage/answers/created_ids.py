"""Reads the ids of stored objects that a call has created from upstream's answer.

The answer to a call that creates an object names it in `id`. Some answers name more objects: a response names its
output items and the container of its code interpreter, a batch names the files of its results. The places are those in
the SDK's response types. `proxyapi.object_owners` records the key that made the call as the owner of each such id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard
from urllib.parse import unquote, urlsplit

MAX_ID_BYTES = 512  # OpenAI's ids have about 60
MAX_RECORDED_IDS = 1000  # of one call; the record in the journal has no more

EACH = "[]"  # in a path: go into every element of a list
Path = tuple[str, ...]

# Upstream makes these without being asked for them by name, and keeps them also when it does not store the response.
CONTAINER: Path = ("output", EACH, "container_id")
_STORES: Path = ("tool_resources", "file_search", "vector_store_ids", EACH)
_ENVIRONMENT: Path = ("environment", "id")
_SESSION: Path = ("session_id",)
_SESSIONS: Path = ("data", EACH, "session_id")
AUDIO: tuple[Path, ...] = (
    ("choices", EACH, "message", "audio", "id"),
    ("choices", EACH, "delta", "audio", "id"),
)
KEPT_IF_UNSTORED = (CONTAINER, *AUDIO)
# Places in which an answer may also name older objects: such as a vector store, which an earlier request has named.
_REPEATED = frozenset({CONTAINER, _STORES, _ENVIRONMENT, _SESSION, _SESSIONS})
# By the answer's member `object`: the paths to the ids of other objects that the call has created with it.
DERIVED_IDS: dict[str, tuple[Path, ...]] = {
    "response": (("output", EACH, "id"), CONTAINER),
    "response.compaction": (("output", EACH, "id"), CONTAINER),
    "chat.completion": AUDIO,
    "chat.completion.chunk": AUDIO,
    "batch": (("output_file_id",), ("error_file_id",)),
    "fine_tuning.job": (("result_files", EACH),),
    "upload": (("file", "id"),),
    "thread.run": (("thread_id",),),
    "thread": (_STORES,),
    "assistant": (_STORES,),
    "list": (("data", EACH, "id"), _SESSIONS),
    "agent.session": (_ENVIRONMENT,),
    "agent.automation.invocation": (_SESSION,),
    "": (("session", "id"),),  # live sessions and client secrets: their answers have no member `object`
}
ITEM_EVENTS = {"response.output_item.added", "response.output_item.done"}
# By the type of an event: the name of the member that is the new object.
OBJECT_EVENTS = {"agent.session.created": "session"}
CREATION_EVENTS = ITEM_EVENTS | set(OBJECT_EVENTS)


def is_object_id(value: object) -> TypeGuard[str]:
    """Returns whether `value` can be the id of an object that upstream stores, such as a response or a file.

    Such an id is a text of 1 to `MAX_ID_BYTES` bytes without control characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_BYTES:
        return False
    if value.isascii():
        return value.isprintable()
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return size <= MAX_ID_BYTES and not any(character < " " or "\x7f" <= character < "\xa0" for character in value)


class CreatedIds:
    """The ids of the objects that one call has created upstream, in the order of upstream's answer.

    * `is_creating`: False for a call that only retrieves an object. The id of that object is then ignored, but not the
      ids of other objects in the answer, such as output items.
    * `is_stored`: False if upstream does not store the object. Then only the ids of containers and audio are read,
      which upstream stores in any case (`KEPT_IF_UNSTORED`).
    * `lasts`: True if upstream keeps the objects until they are deleted, False if it drops them after some weeks.
    * `is_in_location`: True if the answer names the object in its header `Location` (RFC 9110, 10.2.2).
    * `is_of_own_object`: False for a call about an object of another key. The other objects that the answer names, such
      as a batch's result files, are then ignored.
    * `perhaps_older`: those of the ids that may be of older objects. Upstream may use an earlier container again, for
      example, so the call has not created each of these.
    """

    def __init__(
        self,
        *,
        is_creating: bool = True,
        is_stored: bool = True,
        lasts: bool = True,
        is_in_location: bool = False,
        is_of_own_object: bool = True,
    ) -> None:
        self.lasts = lasts
        self.is_in_location = is_in_location
        self.is_creating = is_creating
        self._is_stored = is_stored
        self._is_of_own_object = is_of_own_object
        self.new: list[str] = []  # read since `take_new` was called last
        self.perhaps_older: set[str] = set()
        self._seen: set[str] = set()

    def read(self, answer: Mapping[str, object]) -> None:
        """Finds in an answer the ids of the objects that the call has created, and adds them to `new`.

        `answer` is a whole answer, or an object inside an event of a stream. An id that was read before is not added
        again.
        """
        kind = answer.get("object", "")
        if self.is_creating and self._is_stored and kind != "list":
            self._add(answer.get("id"))
        for path in DERIVED_IDS.get(kind, ()) if isinstance(kind, str) and self._is_of_own_object else ():
            if self._is_stored or path in KEPT_IF_UNSTORED:
                for value in _values_at(answer, path):
                    self._add(value)
                    if path in _REPEATED and is_object_id(value):
                        self.perhaps_older.add(value)

    def read_event(self, event: Mapping[str, object]) -> None:
        """Finds in an event of a stream the ids of the objects that the call has created, and adds them to `new`."""
        kind, inner = event.get("type"), event.get("response")
        if isinstance(inner, dict):
            self.read(inner)
        elif isinstance(kind, str) and kind in OBJECT_EVENTS:
            if isinstance(created := event.get(OBJECT_EVENTS[kind]), dict):
                self.read(created)
        elif isinstance(kind, str) and kind in ITEM_EVENTS:
            self.read({"object": "response", "output": [event.get("item")]})
        elif isinstance(event.get("object"), str):
            self.read(event)

    def read_location(self, location: str) -> None:
        """Finds in a `Location` header the id of the object that the call has created, and adds the id to `new`.

        For `/v1/realtime/calls/rtc_1`, the id is `rtc_1`.
        """
        self._add(unquote(urlsplit(location).path.rstrip("/").rpartition("/")[2]))

    def take_new(self) -> list[str]:
        """Returns the ids that were added to `new` since this method was called last, and empties `new`."""
        new, self.new = self.new, []
        return new

    def _add(self, value: object) -> None:
        if is_object_id(value) and value not in self._seen:
            self._seen.add(value)
            self.new.append(value)


def _values_at(value: object, path: Path) -> Iterator[object]:
    """Yields all values to which `path` leads inside a JSON value.

    The path `("data", EACH, "id")`, for example, leads to the member `id` of every element of the list `data`.
    """
    if not path:
        yield value
    elif path[0] == EACH:
        for element in value if isinstance(value, list) else ():
            yield from _values_at(element, path[1:])
    elif isinstance(value, dict):
        yield from _values_at(value.get(path[0]), path[1:])
