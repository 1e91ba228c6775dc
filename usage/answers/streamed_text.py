"""Owns the text of a streamed answer for the ledger: put together from its events, redacted and cut like a body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from usage.answers.errors import is_error_value
from usage.answers.json_outline import read_outline
from usage.kept_bodies.excerpts import SLACK, margin_for, storable, truncate
from usage.kept_bodies.redaction import redact

_MAX_PARTS = 64
_MAX_CHOICES = 128  # of a chat (OpenAI's reference, `n`)
_MAX_NAME_CHARACTERS = 200
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
# The typed events that `StreamedText` reads.
READ_TYPES = {*TEXT_DELTAS, *_FINAL, "response.output_item.added", "transcript.text.done"}


class StreamedText:
    """The text of a streamed answer, collected from its events; memory is bounded by `limit` bytes of text.

    Choices of a chat, outputs of a response, tool calls and refusals are kept apart, each under a line such as
    `[choice 1: tool call get_weather]`; an answer that is only one text is that text alone.
    """

    def __init__(self, limit: int, secrets: Sequence[str] = ()) -> None:
        self._limit = limit
        self._secrets = secrets
        self._margin = margin_for(secrets)
        self._room = max(0, limit) + SLACK  # characters; each of the first parts adds a margin to it
        self._parts: dict[tuple[str, str, object], _Part] = {}
        self._names: dict[int, str] = {}  # of tools, by the index of the response's output item
        self._finished: set[str] = set()  # the sources that have stated a `finish_reason`, as `choice 0`
        self._left_out_bytes = 0
        self.choice_error: dict[str, object] | None = None  # of a choice that has ended with an error

    def feed(self, event: Mapping[str, object]) -> None:
        """Collects the text in the JSON data of one event; ignores events of unknown kinds."""
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in _objects(choices):
                self._read_choice(choice)
        elif isinstance(kind := event.get("type"), str):
            self._read_event(kind, event)

    def add_error(self, message: str) -> None:
        """Adds the message of an error that ended the stream to the collected text."""
        self._add("", "error", message)

    @property
    def size(self) -> int:
        """The size in bytes of the answer's text so far, also over the limit; messages of errors do not count."""
        return self._left_out_bytes + sum(
            part.left_out_bytes + part.size for part in self._parts.values() if part.kind != "error"
        )

    @property
    def shows_reasoning(self) -> bool:
        """True if the reasoning itself is in the answer's text, as some servers send it, and not only a summary."""
        return any(part.kind == "reasoning" for part in self._parts.values())

    @property
    def has_finished_choices(self) -> bool:
        """True if a chat has at least one choice with text, and every such choice has stated its `finish_reason`."""
        return bool(self._finished) and all(
            part.source in self._finished for part in self._parts.values() if part.source.startswith("choice ")
        )

    def text(self, limit: int | None = None) -> str:
        """Returns the answer's collected text, redacted: at most `limit` bytes, plus a line about the bytes cut off."""
        left_out = self._left_out_bytes
        blocks = []
        one_source = len({part.source for part in self._parts.values()}) == 1
        for part in self._parts.values():
            text = redact(storable("".join(part.pieces)), self._secrets)
            if part.left_out_bytes:  # a secret may be half at its end
                end = max(0, len(text) - self._margin)
                left_out += part.left_out_bytes + len(text[end:].encode())
                text = text[:end]
            label = part.kind if one_source or not part.source else f"{part.source}: {part.kind}"
            label = redact(storable(f"{label} {part.name}".strip()), self._secrets)
            blocks.append(text if len(self._parts) == 1 and part.kind == "text" else f"[{label}]\n{text}")
        limit = self._limit if limit is None else min(limit, self._limit)
        return truncate("\n\n".join(blocks).encode(), max(0, limit), left_out)

    def _add(self, source: str, kind: str, text: object, name: object = "", number: object = 0) -> None:
        """Adds `text` to the part of the answer with this source, kind and number, up to the limit on all text.

        A `text` that is no string, as upstream may send it, is ignored; so is an empty one if there is no `name`.
        """
        if not isinstance(text, str) or not (text or name):
            return
        key = (source, kind, number)
        part = self._parts.get(key)
        if part is None:
            if len(self._parts) == _MAX_PARTS:
                self._left_out_bytes += len(text.encode("utf-8", "replace"))
                return
            part = self._parts[key] = _Part(source, kind)
            if len(self._parts) <= _PARTS_WITH_MARGIN:
                self._room += self._margin
        if isinstance(name, str) and not part.name:
            part.name = name[:_MAX_NAME_CHARACTERS]
        if len(text) > self._room:
            part.left_out_bytes += len(text[self._room :].encode("utf-8", "replace"))
            text = text[: self._room]
        if text:
            self._room -= len(text)
            part.pieces.append(text)

    def _read_choice(self, choice: Mapping[str, object]) -> None:
        """Collects the text of one choice in a chunk of a chat completion, or of an old completion."""
        source = f"choice {_index(choice.get('index'))}"
        if (reason := choice.get("finish_reason")) and len(self._finished) < _MAX_CHOICES:
            self._finished.add(source)
        if reason == "error" or is_error_value(choice.get("error")):
            self._read_choice_error(choice.get("error"))
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._add(source, "text", choice.get("text"))  # the older completions
            return
        self._add(source, "text", delta.get("content"))
        if len(delta) == 1 and "content" in delta:  # as of nearly every chunk
            return
        self._add(source, "refusal", delta.get("refusal"))
        self._add(source, "reasoning", delta.get("reasoning_content") or delta.get("reasoning"))
        audio = delta.get("audio")
        if isinstance(audio, dict):
            self._add(source, "audio transcript", audio.get("transcript"))
        for call in _objects(delta.get("tool_calls")):
            for kind, content in (("function", "arguments"), ("custom", "input")):
                called = call.get(kind)
                if isinstance(called, dict):
                    text = called.get(content) or ""
                    self._add(source, "tool call", text, called.get("name"), _index(call.get("index")))
        called = delta.get("function_call")  # the older form of a tool call
        if isinstance(called, dict):
            self._add(source, "function call", called.get("arguments") or "", called.get("name"))

    def _read_choice_error(self, error: object) -> None:
        """Collects the message of the error with which OpenRouter ends a choice of a chat.

        The choice's `finish_reason` is then "error", and the choice or the chunk has an object with the message.
        """
        if isinstance(error, dict):
            self.choice_error = error
        elif self.choice_error is None:
            self.choice_error = {"code": "error", "message": error if isinstance(error, str) else ""}

    def _read_event(self, kind: str, event: Mapping[str, object]) -> None:
        """Collects the text of one event, of type `kind`, of a response or a transcription."""
        index = _index(event.get("output_index"))
        if kind == "transcript.text.delta":
            self._add("", "text", event.get("delta"))
        elif kind in TEXT_DELTAS:
            number = _index(event.get("content_index", event.get("summary_index")))
            self._add(f"output {index}", TEXT_DELTAS[kind], event.get("delta"), self._names.get(index, ""), number)
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, dict) and isinstance(item.get("name"), str) and len(self._names) < _MAX_PARTS:
                self._names[index] = item["name"][:_MAX_NAME_CHARACTERS]
        elif kind == "transcript.text.done" and not self._parts:
            self._add("", "text", event.get("text"))
        elif kind in _FINAL:
            self._read_response(event.get("response"))

    def _read_response(self, response: object) -> None:
        """Collects the error in the response in a stream's last event, and its text if no earlier event had any."""
        if not isinstance(response, dict):
            return
        output = response.get("output")
        if not self._parts and isinstance(output, list):
            for index, item in enumerate(output[:_MAX_PARTS]):
                if isinstance(item, dict):
                    self._read_item(f"output {index}", item)
        if isinstance(response.get("error"), dict):
            self._add("", "error", response["error"].get("message"))

    def _read_item(self, source: str, item: Mapping[str, object]) -> None:
        """Collects the texts of one output item of a response."""
        kind = str(item.get("type", "")).replace("_", " ")[:40]
        self._add(source, kind, item.get("arguments", item.get("input", item.get("code"))), item.get("name"))
        for member in ("content", "summary"):
            for number, part in enumerate(_objects(item.get(member))):
                kind = {"output_text": "text", "summary_text": "reasoning summary"}.get(
                    str(part.get("type")), "reasoning"
                )
                self._add(source, kind, part.get("text"), number=number)
                self._add(source, "refusal", part.get("refusal"), number=number)


class _Part:
    """A part of a streamed answer that has a label of its own, such as one choice's text or one tool call."""

    __slots__ = ("kind", "left_out_bytes", "name", "pieces", "source")

    def __init__(self, source: str, kind: str) -> None:
        self.source = source  # `choice 0`, `output 0`, or empty
        self.kind = kind  # `text`, `refusal`, `tool call`, …
        self.name = ""  # of a tool
        self.pieces: list[str] = []
        self.left_out_bytes = 0

    @property
    def size(self) -> int:
        """The size in bytes of the collected text of this part of the answer."""
        return sum(len(piece.encode("utf-8", "replace")) for piece in self.pieces)


def parse_event(data: bytes) -> dict[str, object]:
    """Returns the JSON object in an event's data; empty if the data is no object.

    Data that a strict parser refuses is read as an outline (`usage.answers.json_outline`).
    """
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        return read_outline(data)  # it may be odd only
    return event if isinstance(event, dict) else {}


def _objects(values: object) -> list[dict[str, object]]:
    """Returns the JSON objects in a list; none if `values` is no list."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _index(value: object) -> int:
    """Returns the index of a choice or an output as upstream states it; 0 for a value that is no index."""
    return value if isinstance(value, int) and -1 < value < 10**6 else 0
