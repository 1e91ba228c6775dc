"""Owns the one change to what passes on `/v1`: a streamed chat completion's usage, asked for and taken out again.

A caller that streams need not ask for usage, and then upstream says none (OpenAI's reference, `stream_options`).
`ask` adds `stream_options.include_usage` on the way up; `take_out` removes on the way down what that adds: the
field `"usage": null` of every chunk, and the last chunk, which has the usage and no choices. Every other byte stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxyapi.json_members import Member, decode, encode, read_members, read_object

ASKED = '"include_usage":true'
# As OpenAI writes it, in compact JSON: the field is the chunk's last but for the padding.
_USUAL = re.compile(rb',"usage":null(?=(?:,"obfuscation":"[^"\\]*+")?\}(?:\n\n|\r\n\r\n|\r\r))')
_AFTER_EVENT = re.compile(rb"(?<=\n\n)|(?<=\n\r\n)|(?<=\r\r)")
_DATA_LINE = re.compile(rb"^data:[ ]?([^\r\n]*)", re.MULTILINE)


def ask_in(body: bytes, members: Sequence[Member]) -> bytes | None:
    """As `ask`, of a body's bytes."""
    asked = ask(decode(body), members)
    return None if asked is None else encode(asked)


def ask(text: str, members: Sequence[Member]) -> str | None:
    """The body with usage asked for; None if the caller has asked, or if only upstream can say what is wrong."""
    options = [member for member in members if member.name == "stream_options"]
    if not options:
        at = text.index("{") + 1
        return f'{text[:at]}"stream_options":{{{ASKED}}}{"," if members else ""}{text[at:]}'
    last = options[-1]
    if last.value is None:
        return f"{text[: last.value_start]}{{{ASKED}}}{text[last.end :]}"
    if not isinstance(last.value, dict):
        return None
    wanted = last.value.get("include_usage")
    if wanted is not None and wanted is not False:
        return None
    try:
        inner = read_members(text, last.value_start)
    except ValueError:  # too many members
        return None
    given = [member for member in inner if member.name == "include_usage"]
    if given:
        return f"{text[: given[-1].value_start]}true{text[given[-1].end :]}"
    at = last.value_start + 1
    return f"{text[:at]}{ASKED}{',' if inner else ''}{text[at:]}"


def take_out(events: bytes) -> bytes:
    """Whole events as the caller would have seen them, had we not asked."""
    named = events.count(b'"usage"')
    if not named:
        return events
    shorter, found = _USUAL.subn(b"", events)
    return shorter if found == named else b"".join(map(_take_out_of, _AFTER_EVENT.split(events)))


def _take_out_of(event: bytes) -> bytes:
    if b'"usage"' not in event:
        return event
    shorter, found = _USUAL.subn(b"", event)
    if found:
        return shorter
    line = _DATA_LINE.search(event)
    if line is None:
        return event
    text = decode(line[1])
    try:
        members = read_object(text)
    except (ValueError, RecursionError):
        return event
    values = {member.name: member.value for member in members}
    if values.get("choices") == [] and isinstance(values.get("usage"), dict):
        return b""
    if "usage" not in values or values["usage"] is not None:
        return event
    return event[: line.start(1)] + encode(_without(text, members, "usage")) + event[line.end(1) :]


def _without(text: str, members: Sequence[Member], name: str) -> str:
    """The object without that member and one of the commas beside it."""
    number = next(number for number, member in enumerate(members) if member.name == name)
    if number:
        return text[: members[number - 1].end] + text[members[number].end :]
    following = members[1].start if len(members) > 1 else members[0].end
    return text[: members[0].start] + text[following:]
