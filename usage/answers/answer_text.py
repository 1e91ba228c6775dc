"""Owns the text of a streamed answer, put together from its events as they pass, redacted and cut like a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from usage.answers.error_words import states_error
from usage.answers.json_outline import read_outline
from usage.bodies.kept_bodies import SLACK, cut, margin_for, storable
from usage.bodies.redaction import redact

_MOST_PARTS = 64
_MOST_CHOICES = 128  # of a chat (OpenAI's reference, `n`)
_PARTS_WITH_MARGIN = 8  # each costs redaction as much as a few thousand characters do

TEXT_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "function call",
    "response.custom_tool_call_input.delta": "custom tool call",
    "response.mcp_call_arguments.delta": "MCP call",
    "response.code_interpreter_call_code.delta": "code",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning summary",
    "response.audio.transcript.delta": "audio transcript",
    "transcript.text.delta": "text",
}
_FINAL = {"response.completed", "response.incomplete", "response.failed"}
# The typed events that have text in them.
READ_TYPES = {*TEXT_DELTAS, *_FINAL, "response.output_item.added", "transcript.text.done"}


class AnswerText:
    """The text of a streamed answer, from its events, in memory bounded by `limit`.

    Choices of a chat, outputs of a response, tool calls and refusals are kept apart, each under a line such as
    `[choice 1: tool call get_weather]`; an answer that is only one text is that text alone.
    """

    def __init__(self, limit: int, extra: Sequence[str] = ()) -> None:
        self._limit = limit
        self._extra = extra
        self._margin = margin_for(extra)
        self._room = max(0, limit) + SLACK  # characters; the first parts bring a margin of their own
        self._parts: dict[tuple[Any, ...], _Part] = {}
        self._names: dict[Any, str] = {}
        self._finished: set[str] = set()  # places of choices
        self._left_out = 0
        self.choice_error: dict[str, Any] | None = None  # of a choice that has ended with one

    def feed(self, event: dict[str, Any]) -> None:
        """Reads the data of one event; what it does not know it leaves alone."""
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in _dicts(choices):
                self._read_choice(choice)
        elif isinstance(event.get("type"), str):
            self._read_event(event["type"], event)

    def add_error(self, words: str) -> None:
        """Adds what an event says that went wrong."""
        self._add("", "error", words)

    @property
    def size(self) -> int:
        """Bytes of the answer's text seen so far, also those that were not kept; an error's words are none of it."""
        return self._left_out + sum(part.left_out + part.size for part in self._parts.values() if part.kind != "error")

    @property
    def has_finished_choices(self) -> bool:
        """Whether a choice of a chat has said why it ends, and so has every one that has any text."""
        return bool(self._finished) and all(
            part.place in self._finished for part in self._parts.values() if part.place.startswith("choice ")
        )

    def text(self, limit: int | None = None) -> str:
        """What was collected, redacted, in at most `limit` bytes and the mark of the cut."""
        left_out = self._left_out
        blocks = []
        one_place = len({part.place for part in self._parts.values()}) == 1
        for part in self._parts.values():
            text = redact(storable("".join(part.pieces)), self._extra)
            if part.left_out:  # a secret may be half at its end
                end = max(0, len(text) - self._margin)
                left_out += part.left_out + len(text[end:].encode())
                text = text[:end]
            label = part.kind if one_place or not part.place else f"{part.place}: {part.kind}"
            label = redact(storable(f"{label} {part.name}".strip()), self._extra)
            blocks.append(text if len(self._parts) == 1 and part.kind == "text" else f"[{label}]\n{text}")
        limit = self._limit if limit is None else min(limit, self._limit)
        return cut("\n\n".join(blocks).encode(), max(0, limit), left_out)

    def _add(self, place: str, kind: str, text: object, name: object = "", number: object = 0) -> None:
        if not isinstance(text, str) or not (text or name):
            return
        key = (place, kind, number)
        part = self._parts.get(key)
        if part is None:
            if len(self._parts) == _MOST_PARTS:
                self._left_out += len(text.encode("utf-8", "replace"))
                return
            part = self._parts[key] = _Part(place, kind)
            if len(self._parts) <= _PARTS_WITH_MARGIN:
                self._room += self._margin
        if isinstance(name, str) and not part.name:
            part.name = name[:200]
        if len(text) > self._room:
            part.left_out += len(text[self._room :].encode("utf-8", "replace"))
            text = text[: self._room]
        if text:
            self._room -= len(text)
            part.pieces.append(text)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        place = f"choice {_number(choice.get('index'))}"
        if (reason := choice.get("finish_reason")) and len(self._finished) < _MOST_CHOICES:
            self._finished.add(place)
        if reason == "error" or states_error(choice.get("error")):
            self._read_choice_error(choice.get("error"))
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._add(place, "text", choice.get("text"))  # the older completions
            return
        self._add(place, "text", delta.get("content"))
        if len(delta) == 1 and "content" in delta:  # as of nearly every chunk
            return
        self._add(place, "refusal", delta.get("refusal"))
        self._add(place, "reasoning", delta.get("reasoning_content") or delta.get("reasoning"))
        audio = delta.get("audio")
        if isinstance(audio, dict):
            self._add(place, "audio transcript", audio.get("transcript"))
        calls = delta.get("tool_calls")
        for call in _dicts(calls if isinstance(calls, list) else ()):
            for kind, content in (("function", "arguments"), ("custom", "input")):
                asked = call.get(kind)
                if isinstance(asked, dict):
                    text = asked.get(content) or ""
                    self._add(place, "tool call", text, asked.get("name"), _number(call.get("index")))
        asked = delta.get("function_call")  # the older form of a tool call
        if isinstance(asked, dict):
            self._add(place, "function call", asked.get("arguments") or "", asked.get("name"))

    def _read_choice_error(self, error: object) -> None:
        """OpenRouter's: `finish_reason` is "error", and the choice or the chunk has an object with the words."""
        if isinstance(error, dict):
            self.choice_error = error
        elif self.choice_error is None:
            self.choice_error = {"code": "error", "message": error if isinstance(error, str) else ""}

    def _read_event(self, kind: str, event: dict[str, Any]) -> None:
        number = _number(event.get("output_index"))
        if kind == "transcript.text.delta":
            self._add("", "text", event.get("delta"))
        elif kind in TEXT_DELTAS:
            within = _number(event.get("content_index", event.get("summary_index")))
            self._add(f"output {number}", TEXT_DELTAS[kind], event.get("delta"), self._names.get(number, ""), within)
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, dict) and isinstance(item.get("name"), str) and len(self._names) < _MOST_PARTS:
                self._names[number] = item["name"][:200]
        elif kind == "transcript.text.done" and not self._parts:
            self._add("", "text", event.get("text"))
        elif kind in _FINAL:
            self._read_response(event.get("response"))

    def _read_response(self, response: object) -> None:
        if not isinstance(response, dict):
            return
        output = response.get("output")
        if not self._parts and isinstance(output, list):
            for number, item in enumerate(output[:_MOST_PARTS]):
                if isinstance(item, dict):
                    self._read_item(f"output {number}", item)
        if isinstance(response.get("error"), dict):
            self._add("", "error", response["error"].get("message"))

    def _read_item(self, place: str, item: dict[str, Any]) -> None:
        kind = str(item.get("type", "")).replace("_", " ")[:40]
        self._add(place, kind, item.get("arguments", item.get("input", item.get("code"))), item.get("name"))
        for field in ("content", "summary"):
            parts = item.get(field)
            for number, part in enumerate(_dicts(parts if isinstance(parts, list) else ())):
                kind = {"output_text": "text", "summary_text": "reasoning summary"}.get(
                    str(part.get("type")), "reasoning"
                )
                self._add(place, kind, part.get("text"), number=number)
                self._add(place, "refusal", part.get("refusal"), number=number)


class _Part:
    __slots__ = ("kind", "left_out", "name", "pieces", "place")

    def __init__(self, place: str, kind: str) -> None:
        self.place = place
        self.kind = kind
        self.name = ""
        self.pieces: list[str] = []
        self.left_out = 0  # bytes

    @property
    def size(self) -> int:
        return sum(len(piece.encode("utf-8", "replace")) for piece in self.pieces)


def parse_event(data: bytes) -> dict[str, Any]:
    """The JSON object of an event's data, its outline if a strict parser refuses it; an empty one for anything else."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        return read_outline(data)  # it may be odd only
    return event if isinstance(event, dict) else {}


def _dicts(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


def _number(value: object) -> int:
    return value if isinstance(value, int) and -1 < value < 10**6 else 0
