"""Knows the kinds of events of streamed answers: the meaning of each type, and which events have only text in them.

Events with only text may be read later, several at once, which takes less time. They are recognised by a few searches
of their bytes, without parsing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TERMINAL_STATUSES = {"completed", "failed", "incomplete", "cancelled"}  # of a response that has ended
FINAL_RESPONSE_TYPES = {"response.completed", "response.incomplete", "response.failed"}
# The types of the events that end a stream, beside `[DONE]`. Nothing that the ledger needs follows one of them.
FINAL_TYPES = {*FINAL_RESPONSE_TYPES, "error", "transcript.text.done", "speech.audio.done"}
_FIRST_TYPES = {"response.created", "response.queued", "response.in_progress"}
# The event of a whole picture. A call for several pictures has one for each, with the usage of that picture.
PICTURE_TYPES = {"image_generation.completed", "image_edit.completed"}
# How event types begin in streams that end with a typed event. A chat ends with `finish_reason` and `[DONE]` instead.
TYPES_WITH_END = ("response.", "transcript.", "speech.audio.", "image_generation.", "image_edit.")
# The types of events with nothing but a piece of text in them, and which text that is.
TEXT_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "function call",
    "response.custom_tool_call_input.delta": "custom tool call",
    "response.mcp_call_arguments.delta": "MCP call",
    "response.code_interpreter_call_code.delta": "code",
    "response.shell_call_command.delta": "shell command",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning summary",
    "response.audio.transcript.delta": "audio transcript",
    "transcript.text.delta": "text",
}
# The types of events that are parsed however large they are.
_PARSED_TYPES = {
    *TEXT_DELTAS, *FINAL_TYPES, *PICTURE_TYPES, "response.output_item.added",
}  # fmt: skip

# The events of a whole response, such as `response.created`; some servers name the last one `response.done`. Only
# `response.in_progress` is left out, which repeats the event before it.
_OF_WHOLE_RESPONSE = re.compile(r"response\.(?!in_progress$)[^.]*")

# The end of an item that a model has made; pictures are items, too, and mostly larger.
ITEM_DONE = "response.output_item.done"
MAX_ITEM_BYTES = 64 * 1024

# A larger event is parsed only if the ledger may need something in it, because some have a picture in them.
LARGE_BYTES = 4096
_MAX_BYTES = 4 * 1024 * 1024
_TYPE = re.compile(rb'"type"\s*+:\s*+"((?:response|transcript|image|speech)[._a-z]*+)"')
_TYPE_BYTES = 300  # at the start of an event, in which its type is looked for
_NESTED = re.compile(rb"[{\[]")
_DELTA = re.compile(rb'\{\s*+"type"\s*+:\s*+"(?:%b)"' % "|".join(map(re.escape, TEXT_DELTAS)).encode())
# The beginning of an object that has choices, or else a member that an error has not (`errors.is_error_event`).
_CHUNK = re.compile(rb'\{\s*+"(?:choices"\s*+:\s*+\[\s*+\{|(?:id|object|model)"\s*+:\s*+")')
_STATED_USAGE = re.compile(rb'"usage"\s*+:\s*+(?!null)')


def ends_response(kind: str, response: object) -> bool:
    """Returns whether an event is the last of a stream: the `response` in it has a final status.

    `kind` is the event's type. Types that begin a stream, such as `response.created`, are never the last.
    """
    # The type alone does not tell: some servers name their last event `response.done`.
    return isinstance(response, Mapping) and response.get("status") in TERMINAL_STATUSES and kind not in _FIRST_TYPES


def may_matter(data: bytes) -> bool:
    """Returns whether a large event of a stream must be parsed, because the ledger may need something in it.

    The bytes of the event are only searched, which is fast.
    """
    # Only in front of the first nested object: that may have a type of its own, such as the part `image_url` of a chunk
    # that states the usage behind it.
    nested = _NESTED.search(data, data.find(b"{") + 1, _TYPE_BYTES)
    found = _TYPE.search(data, 0, _TYPE_BYTES if nested is None else nested.start())
    if found:
        kind = found[1].decode()
        if kind == ITEM_DONE:
            return len(data) <= MAX_ITEM_BYTES
        return kind in _PARSED_TYPES or _OF_WHOLE_RESPONSE.fullmatch(kind) is not None
    # A quote inside a JSON string is escaped, so these bytes can only be the name of a field.
    return len(data) <= _MAX_BYTES or b'"usage"' in data


def is_text_delta(_name: bytes, data: bytes) -> bool:
    """Returns whether an event only adds a little text to the answer, so that the ledger needs nothing else of it.

    `data` is the event's JSON object. Its first member must be `type`, with one of `TEXT_DELTAS`. The parameter `_name`
    is ignored: it is here because `is_text_chunk` has one, and both are called in the same way.
    """
    return len(data) <= LARGE_BYTES and _DELTA.match(data) is not None


def is_text_chunk(name: bytes, data: bytes) -> bool:
    """Returns whether an event of a stream is a small chunk of a chat from which the ledger needs only the text.

    The result is False if the event has a name, or if an error or a usage object may be in the chunk.
    """
    return (
        not name
        and len(data) <= LARGE_BYTES
        and _CHUNK.match(data) is not None
        and data.find(b"error") < 0  # `in` takes thrice as long: it tries a number first
        and data.find(b'"type"') < 0
        and _STATED_USAGE.search(data) is None
    )
