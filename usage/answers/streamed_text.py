"""Collects the text of a streamed answer from its events for the ledger, redacted and cut like a body.

Over 300 lines, since each server and each API has events of its own for a model's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from usage.answers.errors import is_error_value
from usage.answers.event_kinds import FINAL_RESPONSE_TYPES, ITEM_DONE, TEXT_DELTAS
from usage.answers.event_stream import parse_each
from usage.kept_bodies.body_excerpts import SLACK, margin_for, storable, truncate
from usage.kept_bodies.redaction import redact

_MAX_PARTS = 64
_MAX_CHOICES = 128  # of a chat (OpenAI's reference, `n`)
_MAX_NAME_CHARACTERS = 200
_PARTS_WITH_MARGIN = 8  # more would cost too much, because the margin of each has to be redacted
_MAX_WAITING = 16  # events, for which every open stream may need memory
# By the type of a tool call: the members that a model writes as an object or a list, instead of a text.
_WRITTEN_AS_JSON = {
    "shell_call": ("action",), "local_shell_call": ("action",), "apply_patch_call": ("operation",),
    "computer_call": ("action", "actions"),
}  # fmt: skip
_SOUND_DELTA = "audio.delta"  # how the types of events with base64 instead of text end


class StreamedText:
    """The text of a streamed answer, collected from its events. At most about `limit` bytes are kept in memory.

    If there are several texts, such as choices of a chat, outputs, tool calls and refusals, they are kept apart: each
    stands under a line such as `[choice 1: tool call get_weather]`.
    """

    def __init__(self, limit: int, secrets: Sequence[str] = ()) -> None:
        self._limit = limit
        self._secrets = secrets
        self._margin = margin_for(secrets)
        self._room = max(0, limit) + SLACK  # characters still to be collected; each of the first parts adds a margin
        self._parts: dict[tuple[str, str, object], _Part] = {}
        self._names: dict[int, str] = {}  # the names of called tools, by the index of the response's output item
        self._finished: set[str] = set()  # the choices that have stated a `finish_reason`, each as `choice 0`
        self._left_out_bytes = 0
        self.choice_error: dict[str, object] | None = None  # the error with which a choice has ended
        self._waiting: list[bytes] = []  # the data of events that are still to be parsed

    def feed_later(self, data: bytes) -> None:
        """Stores the `data` of an event that has only text; once 16 events are stored, parses all of them.

        They are parsed earlier if the text is needed.
        """
        self._waiting.append(data)
        if len(self._waiting) >= _MAX_WAITING:
            self._read_waiting()

    def feed(self, event: Mapping[str, object]) -> None:
        """Adds the text in a parsed event to the collected text; ignores events of unknown kinds."""
        self._read_waiting()
        self._read(event)

    def _read_waiting(self) -> None:
        """Parses the events that `feed_later` has put aside, and adds their text to the collected text."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        # Most are chunks of a chat with one choice and only text: these are joined and added at once.
        texts: list[str] = []
        for event in parse_each(waiting):
            text = _text_of_chunk(event)
            if text is not None:
                texts.append(text)
                continue
            if texts:
                self._add("choice 0", "text", "".join(texts))
                texts.clear()
            self._read(event)
        self._add("choice 0", "text", "".join(texts))

    def _read(self, event: Mapping[str, object]) -> None:
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._read_choice(choice)
        elif isinstance(kind := event.get("type"), str):
            self._read_event(kind, event)

    def add_error(self, message: str) -> None:
        """Adds the message of the error that ended the stream to the collected text."""
        self._read_waiting()
        self._add("", "error", message)

    @property
    def size(self) -> int:
        """The number of bytes of text in the answer until now. Text over the limit counts; error messages do not."""
        self._read_waiting()
        return self._left_out_bytes + sum(
            part.left_out_bytes + part.size for part in self._parts.values() if part.kind != "error"
        )

    @property
    def progress(self) -> int:
        """A number that grows with each new piece of the answer's text, but not with error messages.

        It shows whether text has come since an earlier look, and is cheaper than `size`.
        """
        self._read_waiting()
        parts = (part for part in self._parts.values() if part.kind != "error")
        return self._left_out_bytes + sum(part.left_out_bytes + len(part.pieces) for part in parts)

    def measure(self, count: Callable[[bytes], int]) -> int:
        """Returns the size of the answer's text in a unit such as tokens.

        The function `count` measures one text in this unit. Error messages do not count. Text over the limit was not
        kept; each of its bytes counts as one unit.
        """
        self._read_waiting()
        texts = (
            "".join(part.pieces).encode("utf-8", "replace") for part in self._parts.values() if part.kind != "error"
        )
        left_out = self._left_out_bytes + sum(part.left_out_bytes for part in self._parts.values())
        return left_out + sum(map(count, texts))

    @property
    def shows_reasoning(self) -> bool:
        """True if the answer's text includes the full reasoning, as some servers send it, and not just a summary."""
        self._read_waiting()
        return any(part.kind == "reasoning" for part in self._parts.values())

    @property
    def has_finished_choices(self) -> bool:
        """True if every choice of a chat that has brought text has its `finish_reason`, and at least one choice has."""
        self._read_waiting()
        return bool(self._finished) and all(
            part.source in self._finished for part in self._parts.values() if part.source.startswith("choice ")
        )

    def text(self, limit: int | None = None) -> str:
        """Returns the collected text of the answer, with secrets redacted.

        The text is cut to `limit` bytes, or to the limit of this `StreamedText` if that is lower or `limit` is None. A
        remark at the end of a cut text says how many bytes are missing.
        """
        self._read_waiting()
        left_out = self._left_out_bytes
        blocks = []
        one_source = len({part.source for part in self._parts.values()}) == 1
        for part in self._parts.values():
            text = redact(storable("".join(part.pieces)), self._secrets)
            if part.left_out_bytes:  # the cut may have gone through a secret, so the end is dropped
                end = max(0, len(text) - self._margin)
                left_out += part.left_out_bytes + len(text[end:].encode())
                text = text[:end]
            label = part.kind if one_source or not part.source else f"{part.source}: {part.kind}"
            label = redact(storable(f"{label} {part.name}".strip()), self._secrets)
            blocks.append(text if len(self._parts) == 1 and part.kind == "text" else f"[{label}]\n{text}")
        limit = self._limit if limit is None else min(limit, self._limit)
        return truncate("\n\n".join(blocks).encode(), max(0, limit), left_out)

    def _add(self, source: str, kind: str, text: object, name: object = "", number: object = 0) -> None:
        """Adds `text` to one part of the collected answer, as far as the size limit allows.

        `source`, `kind` and `number` say to which part; `name` is the name of a called tool, if any. Values of a wrong
        type are ignored, because upstream may send anything.
        """
        if not isinstance(text, str) or not (text or name):
            return
        part = self._parts.get((source, kind, number))
        if part is None:
            if len(self._parts) == _MAX_PARTS:
                self._left_out_bytes += len(text.encode("utf-8", "replace"))
                return
            part = self._parts[source, kind, number] = _Part(source, kind)
            if len(self._parts) <= _PARTS_WITH_MARGIN:
                self._room += self._margin
        if name and not part.name and isinstance(name, str):
            part.name = name[:_MAX_NAME_CHARACTERS]
        if len(text) > self._room:
            part.left_out_bytes += len(text[self._room :].encode("utf-8", "replace"))
            text = text[: self._room]
        if text:
            self._room -= len(text)
            part.pieces.append(text)

    def _read_choice(self, choice: Mapping[str, object]) -> None:
        """Adds the text of one choice, in a chunk of a chat or of an older completion, to the collected text.

        Also records the choice's `finish_reason` and error, if the chunk has one.
        """
        source = f"choice {_index(choice.get('index'))}"
        reason, error = choice.get("finish_reason"), choice.get("error")
        if reason or error:  # of the last chunk of a choice only
            if reason and len(self._finished) < _MAX_CHOICES:
                self._finished.add(source)
            if reason == "error" or is_error_value(error):
                self._read_choice_error(error)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._add(source, "text", choice.get("text"))  # the older completions
            return
        self._add(source, "text", delta.get("content"))
        if len(delta) == 1 and "content" in delta:  # nearly every chunk is like this
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
        """Stores in `choice_error` the error that ended a choice of a chat.

        OpenRouter marks such a choice by the `finish_reason` "error". `error` is the value of the choice's member
        `error`: an object, a message or, if it is missing, None.
        """
        if isinstance(error, dict):
            self.choice_error = error
        elif self.choice_error is None:
            self.choice_error = {"code": "error", "message": error if isinstance(error, str) else ""}

    def _read_event(self, kind: str, event: Mapping[str, object]) -> None:
        """Adds the text in an event of a response or transcription to the collected text; `kind` is the event type.

        If the event begins a tool call, the tool's name is kept for the texts that follow.
        """
        index = _index(event.get("output_index"))
        if kind == "transcript.text.delta":
            self._add("", "text", event.get("delta"))
        elif kind in TEXT_DELTAS:
            number = _index(event.get("content_index", event.get("summary_index", event.get("command_index"))))
            self._add(f"output {index}", TEXT_DELTAS[kind], event.get("delta"), self._names.get(index, ""), number)
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, dict) and isinstance(item.get("name"), str) and len(self._names) < _MAX_PARTS:
                self._names[index] = item["name"][:_MAX_NAME_CHARACTERS]
        elif kind == ITEM_DONE and isinstance(item := event.get("item"), dict):
            source = f"output {index}"
            if all(part.source != source for part in self._parts.values()):  # it came whole, without any delta
                self._read_item(source, item)
        elif kind.startswith("response.") and kind.endswith(".delta") and not kind.endswith(_SOUND_DELTA):
            self._add(f"output {index}", "other text", event.get("delta"))  # of a kind that is not known yet
        elif kind == "transcript.text.done" and not self._parts:
            self._add("", "text", event.get("text"))
        elif kind in FINAL_RESPONSE_TYPES:
            self._read_response(event.get("response"))

    def _read_response(self, response: object) -> None:
        """Adds a response's error message to the collected text; `response` is the object in a stream's last event.

        If the stream has brought no text, the texts in the response are added, too.
        """
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
        """Adds the texts of one output item of a response to the collected text."""
        item_type = str(item.get("type", ""))
        kind, written = item_type.replace("_", " ")[:40], item.get("arguments", item.get("input", item.get("code")))
        objects = [
            item[name] for name in _WRITTEN_AS_JSON.get(item_type, ()) if isinstance(item.get(name), dict | list)
        ]
        self._add(source, kind, "\n".join(map(json.dumps, objects)) or written, item.get("name"))
        for member in ("content", "summary"):
            for number, part in enumerate(_objects(item.get(member))):
                kind = {"output_text": "text", "summary_text": "reasoning summary"}.get(
                    str(part.get("type")), "reasoning"
                )
                self._add(source, kind, part.get("text"), number=number)
                self._add(source, "refusal", part.get("refusal"), number=number)


class _Part:
    """One part of a streamed answer that is collected separately, such as the text or a tool call of one choice."""

    __slots__ = ("kind", "left_out_bytes", "name", "pieces", "source")

    def __init__(self, source: str, kind: str) -> None:
        self.source = source  # `choice 0`, `output 0`, or empty
        self.kind = kind  # `text`, `refusal`, `tool call`, …
        self.name = ""  # the name of the called tool, if there is one
        self.pieces: list[str] = []
        self.left_out_bytes = 0

    @property
    def size(self) -> int:
        """The size in bytes of the text that has been collected for this part of the answer."""
        return sum(len(piece.encode("utf-8", "replace")) for piece in self.pieces)


def _text_of_chunk(event: Mapping[str, object]) -> str | None:
    """Returns the text in an event that is a usual chunk of a chat; None for any other event.

    A usual chunk has one choice, the first one, which has not finished and has only text in its delta.
    """
    match event:
        case {"choices": [{"index": 0, "delta": {"content": str(text)} as delta, "finish_reason": None}]}:
            return text if len(delta) == 1 else None
    return None


def _objects(values: object) -> list[dict[str, object]]:
    """Returns the elements of a list that are JSON objects; an empty list if `values` is no list."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _index(value: object) -> int:
    """Returns the index of a choice, an output or a part, as upstream states it; 0 if `value` is no such index."""
    return value if isinstance(value, int) and -1 < value < 10**6 else 0
