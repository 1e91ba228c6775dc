"""Owns what the ledger keeps of a call's bodies: `keep_body` of whole ones, `AnswerText` of streamed ones.

Both run on the event loop for every call. Invariants: never raise; what comes out has no secret that
`usage.redaction` knows, no NUL and no lone surrogate (PostgreSQL takes neither), and at most `limit` bytes
and a mark of `LONGEST_MARK` more. A secret is looked for in `limit` bytes and a margin, and the margin is thrown
away: so a secret that the cut would have halved is seen whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

from usage.elision import elide
from usage.redaction import REDACTED, is_secret_name, redact

LONGEST_MARK = 64
MARGIN = 2048  # more than twice the shortest text that shows any secret, also when each letter is \u0041
MARGIN_PER_CHARACTER = 16  # of a configured secret
SLACK = 1024  # what redaction may shorten a cut body by, before less than `limit` is kept of it

_BINARY = re.compile(r"(?:audio|image(?!/svg)|video|font)/|application/(?:octet-stream|pdf|zip|gzip)", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"\s*+([\w.+-]{1,60}/[\w.+-]{1,60})", re.ASCII)
_BOUNDARY = re.compile(r";\s*+boundary=(?:\"([^\"]{1,200})\"|([^\s;,\"]{1,200}))", re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:([^\r\n]{0,2000})", re.IGNORECASE | re.MULTILINE)
_PART_TYPE = re.compile(rb"^content-type:\s*+([\w.+/-]{1,100})", re.IGNORECASE | re.MULTILINE)
_FIELD_NAME = re.compile(rb"[;\s]name\*?=(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;]++))", re.IGNORECASE)
_FILE_NAME = re.compile(rb"[;\s]filename\*?=(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;]++))", re.IGNORECASE)
_LONGEST_PART_HEAD = 4096
_SURROGATE = re.compile("[\ud800-\udfff]")


def keep_body(body: bytes, content_type: str, limit: int, extra: Sequence[str] = ()) -> str:
    """What is kept of a request's or an answer's body: its start, elided, redacted, at most `limit` bytes.

    JSON and text as they came; a form as lines of `name: value`; anything else as `<audio/mpeg, 123 bytes>`.
    `extra` are the configured secrets.
    """
    if not body or limit <= 0:
        return ""
    budget = limit + _margin(extra) + SLACK
    media_type = _media_type(content_type)
    if media_type == "multipart/form-data":
        kept, seen = _read_form(body, content_type, budget)
    elif _is_binary(body, media_type):
        kept, seen = _size(media_type or "binary", len(body)), len(body)
    elif media_type == "application/x-www-form-urlencoded":
        kept, seen = _read_query(body, budget)
    else:
        kept, seen = elide(body, budget)
    return _finish(kept.decode("utf-8", "replace"), limit, len(body) - seen, extra)


def _finish(text: str, limit: int, left_out: int, extra: Sequence[str]) -> str:
    """`text` redacted and cut. If something was left out, a secret may be half at its end: the margin goes."""
    text = redact(_storable(text), extra)
    if not left_out and len(text) * 4 <= limit:
        return text
    data = text.encode()
    return _cut(data, min(limit, max(0, len(data) - _margin(extra))) if left_out else limit, left_out)


def _cut(data: bytes, end: int, left_out: int) -> str:
    kept = data[:end].decode("utf-8", "ignore")
    left_out += max(0, len(data) - end)
    return f"{kept}… <{left_out:,} bytes cut>" if left_out else kept


def _storable(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _margin(extra: Sequence[str]) -> int:
    return max(MARGIN, MARGIN_PER_CHARACTER * max(map(len, extra), default=0))


def _media_type(content_type: str) -> str:
    match = _MEDIA_TYPE.match(content_type)
    return match[1].lower() if match else ""


def _is_binary(body: bytes, media_type: str) -> bool:
    if _BINARY.match(media_type):
        return True
    head = body[:256]
    if head.isascii() and b"\0" not in head:
        return False
    text = head.decode("utf-8", "replace")
    return (text.count("\ufffd") + text.count("\0")) * 8 > len(text)


def _size(name: str, size: int) -> bytes:
    return f"<{name}, {size:,} bytes>".encode()


# Forms


def _read_query(body: bytes, budget: int) -> tuple[bytes, int]:
    kept, seen = elide(body, budget)
    fields = []
    for field in kept.split(b"&"):
        name, equals, _ = field.partition(b"=")
        secret = equals and is_secret_name(name[:1000].decode("utf-8", "replace"))
        fields.append(name + equals + REDACTED.encode() if secret else field)
    return b"&".join(fields), seen


def _read_form(body: bytes, content_type: str, budget: int) -> tuple[bytes, int]:
    """The form's parts as lines. A form that cannot be read is not kept, as its secrets could not be found."""
    found = _BOUNDARY.search(content_type)
    boundary = b"--" + (found[1] or found[2]).encode("utf-8", "replace") if found else b""
    at = body.find(boundary, 0, _LONGEST_PART_HEAD) if found else -1
    if at < 0:
        return _size("multipart/form-data", len(body)), len(body)
    lines: list[bytes] = []
    while at >= 0:
        head_start = at + len(boundary)
        start = body.find(b"\r\n\r\n", head_start, head_start + _LONGEST_PART_HEAD) + 4
        if start < 4:
            rest = body[head_start:].strip()
            lines += [_size("not a part", len(rest))] if rest not in {b"", b"--"} else []
            break
        at = body.find(b"\r\n" + boundary, start)
        end = at if at >= 0 else len(body)
        line, seen = _read_part(body[head_start : start - 2], body, start, end, budget)
        lines.append(line)
        budget -= len(line)
        if budget <= 0:
            return b"\n".join(lines), min(start + seen, len(body) - 1)
        at += 2 if at >= 0 else 0
    return b"\n".join(lines), len(body)


def _read_part(head: bytes, body: bytes, start: int, end: int, budget: int) -> tuple[bytes, int]:
    """The part as a line, and how much of its content that is."""
    disposition = _DISPOSITION.search(head)
    about = disposition[1] if disposition else b""
    name = _first_group(_FIELD_NAME.search(about)) or b"?"
    if is_secret_name(name.decode("utf-8", "replace")):
        return name + b": " + REDACTED.encode(), end - start
    file_name = _FILE_NAME.search(about)
    if file_name:
        part_type = _PART_TYPE.search(head)
        kind = part_type[1] if part_type else b"application/octet-stream"
        return b"%s: <%s, %s, %s bytes>" % (
            name,
            _first_group(file_name),
            kind,
            f"{end - start:,}".encode(),
        ), end - start
    value, seen = elide(body[start:end], budget)
    return name + b": " + value, seen


def _first_group(match: re.Match[bytes] | None) -> bytes:
    return next((group for group in match.groups() if group is not None), b"") if match else b""


# Streams

_SKIPPABLE = re.compile(rb'"type"\s*+:\s*+"((?:response|transcript|image|speech)[._a-z]*+)"')
_LARGE_EVENT = 4096
_LARGEST_EVENT = 4 * 1024 * 1024
_MOST_PARTS = 64

_DELTAS = {
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
_READ = {*_DELTAS, *_FINAL, "response.output_item.added", "transcript.text.done"}


class AnswerText:
    """The text of a streamed answer, from the data of its events, in memory bounded by `limit`.

    Choices of a chat, outputs of a response, tool calls and refusals are kept apart, each under a line such as
    `[choice 1: tool call get_weather]`; an answer that is only one text is that text alone.
    """

    def __init__(self, limit: int, extra: Sequence[str] = ()) -> None:
        self._limit = limit
        self._extra = extra
        self._margin = _margin(extra)
        self._room = max(0, limit) + SLACK  # characters; each part brings a margin of its own
        self._parts: dict[tuple[Any, ...], _Part] = {}
        self._names: dict[Any, str] = {}
        self._left_out = 0

    def feed(self, event_data: bytes) -> None:
        """Reads the data of one event; what it does not know it leaves alone."""
        if len(event_data) > _LARGE_EVENT:
            kind = _SKIPPABLE.search(event_data, 0, 300)
            name = kind[1].decode() if kind else ""
            if len(event_data) > _LARGEST_EVENT or (kind and name not in _READ) or (self._parts and name in _FINAL):
                return
        event = _parse(event_data)
        if isinstance(event.get("choices"), list):
            for choice in _dicts(event["choices"]):
                self._read_choice(choice)
        elif isinstance(event.get("type"), str):
            self._read_event(event["type"], event)
        if isinstance(event.get("error"), dict):
            self._add("", "error", event["error"].get("message"))

    def text(self, limit: int | None = None) -> str:
        """What was collected, redacted, in at most `limit` bytes and the mark of the cut."""
        left_out = self._left_out
        blocks = []
        one_place = len({part.place for part in self._parts.values()}) == 1
        for part in self._parts.values():
            text = redact(_storable("".join(part.pieces)), self._extra)
            if part.left_out:  # a secret may be half at its end
                end = max(0, len(text) - self._margin)
                left_out += part.left_out + len(text[end:].encode())
                text = text[:end]
            label = part.kind if one_place or not part.place else f"{part.place}: {part.kind}"
            label = redact(_storable(f"{label} {part.name}".strip()), self._extra)
            blocks.append(text if len(self._parts) == 1 and part.kind == "text" else f"[{label}]\n{text}")
        limit = self._limit if limit is None else min(limit, self._limit)
        return _cut("\n\n".join(blocks).encode(), max(0, limit), left_out)

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
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._add(place, "text", choice.get("text"))  # the older completions
            return
        self._add(place, "text", delta.get("content"))
        self._add(place, "refusal", delta.get("refusal"))
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

    def _read_event(self, kind: str, event: dict[str, Any]) -> None:
        number = _number(event.get("output_index"))
        if kind == "transcript.text.delta":
            self._add("", "text", event.get("delta"))
        elif kind in _DELTAS:
            within = _number(event.get("content_index", event.get("summary_index")))
            self._add(f"output {number}", _DELTAS[kind], event.get("delta"), self._names.get(number, ""), within)
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, dict) and isinstance(item.get("name"), str) and len(self._names) < _MOST_PARTS:
                self._names[number] = item["name"][:200]
        elif kind == "transcript.text.done" and not self._parts:
            self._add("", "text", event.get("text"))
        elif kind in _FINAL:
            self._read_response(event.get("response"))
        elif kind == "error":
            self._add("", "error", event.get("message"))

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


def _parse(data: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        if b"\\ud" not in data and b"\\uD" not in data:
            return {}
        try:
            event = json.loads(data)  # takes a lone surrogate
        except (ValueError, RecursionError):
            return {}
    return event if isinstance(event, dict) else {}


def _dicts(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


def _number(value: object) -> int:
    return value if isinstance(value, int) and -1 < value < 10**6 else 0
