"""Removes the usage from a streamed chat's answer on `/v1` if the gateway, not the caller, has asked for it.

The gateway asks (`proxyapi.streams.chat_usage_request`) because the ledger needs the usage. A caller that has not asked
must not see the difference. `remove_usage` removes what asking adds: the field `"usage": null` of every chunk, and the
last chunk, which has the usage and no choices. Every other byte stays.

Some servers put more than usage into that last chunk (llama.cpp its `timings`, which would otherwise be in the chunk
before). Then the chunk stays, without its usage. Its empty list of choices becomes a list with one empty choice,
because callers that did not ask for usage may rely on `choices[0]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from proxyapi.bodies.json_members import Member, decode, encode, read_object
from usage.answers import event_stream
from usage.answers.event_stream import Event

_DEEPEST = 8  # levels of objects and lists inside an event's object; the most that a chunk has, with `top_logprobs`
_SPACE, _TEXT = rb"[ \t]*+", rb'"(?:[^"\\\r\n]++|\\[^\r\n])*+"'


def _balanced(depth: int) -> bytes:
    """Returns a regular expression for a part of a line of JSON in which each opened bracket is closed again.

    It matches brackets that are nested up to `depth` levels deep. Brackets inside strings do not count.
    """
    bracketed = rb"|[{\[]%b[}\]]" % _balanced(depth - 1) if depth else b""
    return rb'(?:[^"{}\[\]\r\n]++|%b%b)*+' % (_TEXT, bracketed)


# The field `"usage": null` of an event that is one line of JSON, wherever it stands in the object: the brackets behind
# it show that it is in no inner object. It is the first group, behind a comma, or else the second, in front of one.
_USUAL = re.compile(
    rb'^data: ?\{(?>[^\r\n]*,(?<![ \t],)(%(space)b"usage"%(space)b:%(space)bnull)'
    rb'|%(space)b("usage"%(space)b:%(space)bnull%(space)b,%(space)b))'
    rb"(?=%(balanced)b\}%(space)b\r?\n\r?\n)" % {b"space": _SPACE, b"balanced": _balanced(_DEEPEST)},
    re.MULTILINE,
)
# The same field as most servers write it, compact or with spaces.
_SPELLINGS = (b',"usage":null', b', "usage": null')
# The members that every chunk has: OpenAI's (`ChatCompletionChunk` of the SDK), and the padding.
_USUAL_MEMBERS = {
    "id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"
}  # fmt: skip
_NOTHING: tuple[object, ...] = (None, "", [], {})
_SILENT_CHOICE = '[{"index":0,"delta":{},"finish_reason":null}]'


class Edit(NamedTuple):
    """A change to the data of a server-sent event: `text` replaces the characters from `start` to `end`."""

    start: int
    end: int
    text: str = ""


def remove_usage(events: bytes) -> bytes:
    """Removes from events of a streamed chat the usage for which only the gateway has asked; returns the events.

    `"usage": null` is removed from every chunk, and the usage object from the last chunk, which has no choices. If the
    last chunk has nothing else, it is removed as a whole; otherwise it gets one empty choice.
    """
    named = events.count(b'"usage"')
    if not named:
        return events
    if named == 1:  # as in nearly all chunks, which have one event each
        place = _find_plain(events)
        if place is None and (match := _USUAL.search(events)) is not None:
            place = _place(match)
        if place is not None:
            return events[: place[0]] + events[place[1] :]
    pieces, at = [], 0
    for match in _USUAL.finditer(events):
        start, end = _place(match)
        pieces.append(events[at:start])
        at = end
    if len(pieces) == named:
        return b"".join([*pieces, events[at:]])
    pieces, at = [], 0
    for event in event_stream.split(events):
        pieces += [events[at : event.start], _remove_from(event, events)]
        at = event.end
    return b"".join([*pieces, events[at:]])


def _find_plain(events: bytes) -> tuple[int, int] | None:
    """Finds `,"usage":null` in an event of a streamed chat by a fast search for bytes; returns its start and end.

    Returns None if the search finds no such field, if the field may be in an inner object, or if `events` are not
    exactly one event with one line of data.
    """
    # The closing brace shows that the field is in no inner object. These few searches for bytes take a third of the
    # time of the regular expression `_USUAL`.
    for field in _SPELLINGS:
        start = events.find(field)
        if start < 0:
            continue
        end, last = start + len(field), len(events) - 3
        is_plain = (
            events.startswith(b"data: {")
            and events.find(b"}", end) == last
            and events.find(b"\n") == last + 1  # the second byte behind it may only be a line feed, too
            and events.endswith(b"\n")
            and events.find(b"\r") < 0
            and events[start - 1] not in b" \t"
        )
        return (start, end) if is_plain else None
    return None


def _place(match: re.Match[bytes]) -> tuple[int, int]:
    """Returns the start and end of the bytes to cut out of an event: the field `"usage": null` with one comma.

    `match` is a match of the regular expression `_USUAL`, which finds this field.
    """
    number = match.lastindex or 0
    start, end = match.span(number)
    return (start - 1 if number == 1 else start), end


def _remove_from(event: Event, events: bytes) -> bytes:
    """Removes the usage from one event of a streamed chat, and returns the rest of the event.

    * `"usage": null` is removed from every event.
    * An object `usage` is removed only from the last chunk, which has no choices. If the chunk has nothing else, the
      result is empty; if it has, the chunk gets an empty choice.
    * Any other event is returned unchanged.
    """
    unchanged = events[event.start : event.end]
    if b'"usage"' not in event.data:
        return unchanged
    text = decode(event.data)
    try:
        members = read_object(text)
    except (ValueError, RecursionError):
        return unchanged
    values = {member.name: member.value for member in members}
    if "usage" not in values:
        return unchanged
    without_usage = _without(members, "usage")
    if values["usage"] is None:
        return _edited(event, events, text, [without_usage])
    if not isinstance(values["usage"], dict) or values.get("choices"):
        return unchanged
    if all(name in _USUAL_MEMBERS or value in _NOTHING for name, value in values.items()):
        return b""
    choices = [member for member in members if member.name == "choices"]
    if not choices:
        return unchanged  # this is no chunk of a chat
    spoken = [Edit(choice.value_start, choice.end, _SILENT_CHOICE) for choice in choices]
    return _edited(event, events, text, sorted([without_usage, *spoken]))


def _without(members: Sequence[Member], name: str) -> Edit:
    """Returns the edit that removes a JSON object's first member called `name`, with a comma beside it.

    The object must have such a member.
    """
    number = next(number for number, member in enumerate(members) if member.name == name)
    if number:
        return Edit(members[number - 1].end, members[number].end)
    following = members[1].start if len(members) > 1 else members[0].end
    return Edit(members[0].start, following)


def _edited(event: Event, events: bytes, text: str, edits: Sequence[Edit]) -> bytes:
    """Applies `edits` to the data of a server-sent event in `events`, and returns the bytes of the new event.

    `text` is the event's data as text. A data line that becomes empty is removed. Lines of the event that are no data
    stay unchanged.
    """
    replaced = [(len(encode(text[: edit.start])), len(encode(text[: edit.end])), encode(edit.text)) for edit in edits]
    pieces, at, offset = [], event.start, 0
    for line in event.lines:
        value = events[line.start : line.end]
        shorter = _replace(value, [(start - offset, end - offset, new) for start, end, new in replaced])
        if shorter != value and not shorter.strip():
            pieces.append(events[at : line.line_start])
            at = line.line_end
        else:
            pieces += [events[at : line.start], shorter]
            at = line.end
        offset += len(value) + 1  # the line feed that joins the line to the next one
    return b"".join([*pieces, events[at : event.end]])


def _replace(value: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Applies edits to `value`, one line of a server-sent event's data, and returns the new line.

    An edit is a tuple: start, end, new bytes. Both positions count from the start of this line, and may lie outside of
    it if the edit covers several lines; the new bytes go into the line in which the edit starts.
    """
    pieces, at = [], 0
    for start, end, new in edits:
        if end <= 0 or start > len(value):
            continue
        pieces += [value[at : max(start, 0)], new if start >= 0 else b""]
        at = min(end, len(value))
    return b"".join([*pieces, value[at:]])
