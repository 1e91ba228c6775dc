"""Owns what the ledger wants to know of upstream's answer, whole or streamed.

`Answer` reads a copy of the bytes; it never changes them and never raises on odd ones: what
cannot be read stays unknown. Whole answers and events are read by the same rules (`parse_body`, `parse_event`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from typing import Any

import orjson

from usage.answers import event_stream
from usage.answers.answer_text import READ_TYPES, TEXT_DELTAS, AnswerText, parse_event
from usage.answers.error_words import CODES, ErrorFacts, body_error, event_error, stated_error, states_error
from usage.answers.json_outline import read_outline
from usage.answers.made_objects import DERIVED, MAKING_EVENTS, MadeObjects
from usage.answers.tokens import read_counts

# Of a response that goes on; what it states as its usage meanwhile is not what it will have used.
UNFINISHED = {"queued", "in_progress"}
# The last events of each dialect, beside `[DONE]` and an error. After one of them nothing that counts is to come.
FINAL_EVENT_TYPES = {
    "response.completed",
    "response.incomplete",
    "response.failed",
    "transcript.text.done",
    "speech.audio.done",
    "image_generation.completed",
    "image_edit.completed",
    "error",
}
# Event types of the dialects that have a last event. A chat has two ends: `finish_reason` of each choice, and `[DONE]`.
_TYPES_WITH_END = ("response.", "transcript.", "speech.audio.", "image_generation.", "image_edit.")

# A larger body is not parsed as a whole; of it these members are read.
LARGEST_PARSED = 256 * 1024
WANTED = {"id", "object", "model", "service_tier", "status", "usage", "output", "error"}
WANTED_OF_OBJECTS = WANTED | {path[0] for paths in DERIVED.values() for path in paths}

# Of larger events, only those that say something are parsed: some have a picture in them.
_LARGE_EVENT = 4096
_LARGEST_EVENT = 4 * 1024 * 1024
TERMINAL_STATUSES = {"completed", "failed", "incomplete", "cancelled"}  # of a response
_FIRST_EVENT_TYPES = {"response.created", "response.queued", "response.in_progress"}
_ERROR_TEXT = re.compile(rb"[\W_]*+error\b", re.IGNORECASE)
_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*+\{\s*+["}]')
_BEGINNING_OF_OBJECT = re.compile(rb"(?:\xef(?:\xbb(?:\xbf)?)?)?\s*+(?:\{\s*+)?")
_TYPE = re.compile(rb'"type"\s*+:\s*+"((?:response|transcript|image|speech)[._a-z]*+)"')


class Answer:
    """What upstream said of itself: ids, model, tier, usage, error.

    Without `states_usage` what it calls usage is not what this call consumed, and is not read.
    `finished` becomes true with the event that ends a stream in its dialect. With `must_end` a stream of no events
    lacks its end, too. A `text`, if there is one, is fed with every event. `objects`, if the call may make any, reads
    their ids.
    """

    def __init__(self) -> None:
        self.model = ""
        self.response_id = ""
        self.service_tier = ""
        self.response_status = ""
        self.states_usage = True
        self.usage: dict[str, Any] | None = None
        self.counts: dict[str, int | float] = {}
        self.error: ErrorFacts | None = None
        self.finished = False
        self.has_done = False  # whether `[DONE]` has come
        self.must_end = False
        self.text: AnswerText | None = None
        self.objects: MadeObjects | None = None
        self._events = 0
        self._has_end = False  # whether the dialect of its events has a last one
        self._has_last_type = False  # and it is one of a type: `[DONE]` alone does not end it

    def read_body(self, body: bytes) -> None:
        """Reads a whole JSON body; anything else is left alone."""
        self.read_whole(parse_body(body))

    def read_whole(self, answer: dict[str, Any]) -> None:
        """Reads a whole answer that `parse_body` has parsed."""
        self.read(answer)
        if self.objects is not None:
            self.objects.read(answer)

    def read_error(self, body: bytes, status: int) -> None:
        """Reads the whole body of an answer that is an error."""
        self.error = body_error(body, status)

    @property
    def has_events(self) -> bool:
        return self._events > 0

    @property
    def lacks_end(self) -> bool:
        """Whether a stream that has ended with what was read is only the beginning of an answer."""
        if self.finished or not (self._has_end or (self.must_end and not self.has_events)):
            return False
        return self.text is None or not self.text.has_finished_choices

    def read_events(self, events: bytes) -> None:
        """Reads whole SSE events (one or more, each with its blank line)."""
        for name, data in event_stream.read(events):
            self._read_data(name, data)

    def _read_data(self, name: bytes, data: bytes) -> None:
        self._events += 1
        if data[-1:] != b"}" and data.strip() == event_stream.DONE:
            self.has_done = True
            self.finished = self.finished or not self._has_last_type
            return
        if len(data) > _LARGE_EVENT and self._events > 1 and name != b"error" and not _says_something(data):
            return
        event = parse_event(data) or _odd_event(data)
        if name and "type" not in event and event:
            event["type"] = name.decode("utf-8", "replace")  # some servers say it in one place only
        if self.text is not None:
            self.text.feed(event)
        kind, inner = event.get("type"), None
        if isinstance(kind, str):
            if kind in TEXT_DELTAS and self.model and self._has_end:
                return  # such an event has nothing but text
            inner = event.get("response")
        if self.objects is not None and (inner is not None or not isinstance(kind, str) or kind in MAKING_EVENTS):
            self.objects.read_event(event)
        error = event.get("error")
        if not self.model or inner is not None or event.get("usage") is not None or error is not None:
            self.read(inner if isinstance(inner, dict) else event)
        if not self._has_end:
            self._has_last_type = isinstance(kind, str) and kind.startswith(_TYPES_WITH_END)
            self._has_end = self._has_last_type or isinstance(event.get("choices"), list)
        if isinstance(kind, str) and (kind in FINAL_EVENT_TYPES or _ends_response(kind, inner)):
            self._read_final(kind)
        if (
            (error and states_error(error))
            or name == b"error"
            or (name and not event and _names_error(name))
            or (not event.get("choices") and _is_error(event))
        ):
            self._read_error_event(event, data)
        elif self.text is not None and self.text.choice_error is not None:
            self._read_error_event(self.text.choice_error, data)

    def _read_final(self, kind: str) -> None:
        self.finished = True
        if kind == "response.failed" and self.error is None:
            self.error = {"type": "", "code": "response_failed", "message": ""}

    def _read_error_event(self, event: dict[str, Any], data: bytes) -> None:
        """Reads an event that says what went wrong; nothing follows it."""
        self.finished = True
        facts = event_error(event, data)
        if self.error is None or not any(self.error.values()):
            self.error = facts
        if self.text is not None:
            self.text.add_error(facts["message"])

    def read(self, answer: dict[str, Any]) -> None:
        """Reads an answer, or the one inside an event."""
        self.model = _text(answer, "model") or self.model
        self.service_tier = _text(answer, "service_tier") or self.service_tier
        if _text(answer, "object") in {"chat.completion", "chat.completion.chunk", "response", "conversation"}:
            self.response_id = _text(answer, "id") or self.response_id
            self.response_status = _text(answer, "status") or self.response_status
        if self.states_usage and isinstance(answer.get("usage"), dict) and _text(answer, "status") not in UNFINISHED:
            self.usage = answer["usage"]
            self.counts.update(read_counts(answer["usage"]))
        if isinstance(answer.get("output"), list):
            self.counts["web_searches"] = sum(map(_is_billed_search, answer["output"]))
        if answer.get("error") or answer.get("object") == "error":
            self.error = stated_error(answer) or self.error


# Members that errors do not have beside their words.
_OF_ANSWERS = frozenset({"id", "model", "output"})
_GOOD_CODES = frozenset({
    "0", "200", "ok", "success", "succeeded", "queued", "pending", "waiting", "starting", "started", "processing",
    "running", "in_progress", "generating", "completed", "finished", "done",
})  # fmt: skip


def begins_object(start: bytes) -> bool | None:
    """Whether bytes that begin so are a JSON object, not sound or a file. None: more is needed to tell."""
    if _OBJECT.match(start):
        return True
    return None if _BEGINNING_OF_OBJECT.fullmatch(start) else False


def _ends_response(kind: str, response: object) -> bool:
    """Whether an event with this response in it is the last one, under a name of its own (`response.done`)."""
    return isinstance(response, dict) and response.get("status") in TERMINAL_STATUSES and kind not in _FIRST_EVENT_TYPES


def _is_error(event: dict[str, Any]) -> bool:
    """Whether an event that is no chunk of an answer is an error: by its kind, or as it has an error's words only.

    `{"type": "BadRequestError", "message": …}`, `{"object": "error", …}`, `{"detail": …}`, `{"code": 1, "msg": …}`.
    """
    kind, named = event.get("type"), event.get("object")
    if named or isinstance(kind, str):
        return named == "error" or (isinstance(kind, str) and _names_error(kind.encode("utf-8", "replace")))
    if event.get("usage") is not None or not _OF_ANSWERS.isdisjoint(event) or _says_all_is_well(event):
        return False
    return bool(event_error(event, b"")["message"])


def _says_all_is_well(event: dict[str, Any]) -> bool:
    """Whether an event has a code or a status of success or of progress: `{"code": 0, "message": "success"}`."""
    inner = event.get("base_resp")
    places = (event, inner) if isinstance(inner, dict) else (event,)
    return any(str(place[name]).lower() in _GOOD_CODES for place in places for name in CODES if name in place)


def _names_error(kind: bytes) -> bool:
    """Whether a type or a name is that of an error: `error`, `BadRequestError`, `exception`."""
    return kind.lower().endswith((b"error", b"exception"))


def _odd_event(data: bytes) -> dict[str, Any]:
    """The error that an event says without being a JSON object: in a list (Gemini), or as a text that begins so."""
    if data.lstrip()[:1] == b"[":
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return found[0]
    return {"object": "error", "message": event_error({}, data)["message"]} if _ERROR_TEXT.match(data) else {}


def _says_something(data: bytes) -> bool:
    found = _TYPE.search(data, 0, 300)
    if found:
        kind = found[1].decode()
        return kind in FINAL_EVENT_TYPES or kind in READ_TYPES
    # A quote inside a JSON string is escaped, so these bytes can only be the name of a field.
    return len(data) <= _LARGEST_EVENT or b'"usage"' in data


def parse_body(body: bytes, wanted: Collection[str] = WANTED_OF_OBJECTS) -> dict[str, Any]:
    """The JSON object that `body` is; its outline if it is large, or if a strict parser refuses it; else nothing.

    Of a large one `wanted` are the members that are read.
    """
    if body[:1] != b"{":
        body = body.removeprefix(codecs.BOM_UTF8).lstrip()
    if body[:1] != b"{":
        return {}
    if len(body) > LARGEST_PARSED:
        return read_outline(body, wanted)
    try:
        parsed: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError:
        return read_outline(body)
    return parsed


def _is_billed_search(item: Any) -> bool:
    """Opening a page and looking in it are web search calls too, but cost nothing (OpenAI's pricing page)."""
    if _text(item, "type") != "web_search_call":
        return False
    return _text(item.get("action"), "type") in {"", "search"}


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
