"""Reads server-sent events, for all code that reads a stream: the relay, the ledger, the stored text, the usage.

The grammar is WHATWG HTML's (9.2.5 and 9.2.6): a line ends with CR LF, LF or CR; a blank line ends an event; several
`data` lines are joined by line feeds. Five deviations of real servers are read, too:

* Events may be separated by a single line end: a `data` line that is a whole JSON object by itself, or `[DONE]`, ends
  its event when another `data` line follows. Since no JSON text continues after a whole object, no event is split.
* The last event of a stream needs no blank line.
* A byte order mark is skipped in front of any event, not only of the first.
* A line with the field `error`, which llama.cpp's server wrote for years, is the data of an event named `error`.
* A line that is a JSON object without a field name, as servers write when they fail, is the data of an event.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from usage.answers.json_outline import read_outline

BOM = codecs.BOM_UTF8
DONE = b"[DONE]"
LF = ord("\n")  # a number is found in bytes much faster than other bytes are
FIELDS = (b"data", b"event", b"id", b"retry", b"error", b"")  # a line with an empty field name is a comment

_LINE = re.compile(rb"([^\r\n]*+)(\r\n|\n|\r|\Z)")


class DataLine(NamedTuple):
    """The position of one `data` line in a stream of server-sent events.

    `start:end` is the value after `data: `, and `line_start:line_end` the whole line with its line end.
    """

    line_start: int
    start: int
    end: int
    line_end: int


class Event(NamedTuple):
    """One server-sent event: its name, its data and its position in the stream.

    `start:end` are the event's bytes in the stream, with the blank line behind the event if there is one. `lines` are
    the positions of the event's `data` lines.
    """

    name: bytes
    data: bytes
    start: int
    end: int
    lines: tuple[DataLine, ...]


def read(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the name and the data of each server-sent event in `stream`, which must consist of whole events.

    If an event has no name, an empty name is returned. Events without data, such as comments, are left out.
    """
    if stream.find(b"\r") >= 0:  # `in` takes thrice as long: it tries a number first
        return [(event.name, event.data) for event in split(stream)]
    # This runs for every piece of every stream. Nearly all events have one data line, with or without a name, and are
    # found with a few comparisons.
    line_end, last = stream.find(b"\n"), len(stream) - 2
    if line_end == last:
        if stream[:6] == b"data: ":
            return [(b"", stream[6:-2])]
    elif (
        stream.find(b"\n", line_end + 1) == last
        and stream[:7] == b"event: "
        and stream[line_end + 1 : line_end + 7] == b"data: "
    ):
        return [(stream[7:line_end], stream[line_end + 7 : -2])]
    events = []
    for block in stream.split(b"\n\n"):
        if block:
            head, _, data = block.partition(b"\ndata: ")
            if block[:6] == b"data: " and LF not in block:
                events.append((b"", block[6:]))
            elif head[:7] == b"event: " and data and LF not in head and LF not in data:
                events.append((head[7:], data))
            else:
                events.extend((event.name, event.data) for event in split(block))
    return events


def split(stream: bytes) -> list[Event]:
    """Splits `stream` into server-sent events; returns those that have data, even if the end of the last is missing."""
    builder = _Builder(stream)
    for line in _LINE.finditer(stream):
        builder.add_line(line.start(), line.end(1), line.end())
    builder.end(len(stream))
    return builder.events


def is_whole(data: bytes) -> bool:
    """Returns whether the data of a server-sent event is complete: a JSON object, or `[DONE]`, which ends a chat."""
    data = data.strip()
    if not (data.startswith(b"{") and data.endswith(b"}")):
        return data == DONE
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def parse(data: bytes) -> dict[str, object]:
    """Returns the JSON object in the data of a server-sent event; an empty dict if the data are other JSON.

    From invalid JSON, the members before the error are returned, and their large values are left out.
    """
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        return read_outline(data)  # the data may be JSON that only a strict parser refuses
    return event if isinstance(event, dict) else {}


def parse_each(data: Sequence[bytes]) -> list[dict[str, object]]:
    """Parses the data of several server-sent events in one step; returns one JSON object for each.

    The data of each event must begin with `{`.
    """
    try:
        events = orjson.loads(b"[%b]" % b",".join(data))
    except orjson.JSONDecodeError:
        events = []
    are_whole = len(events) == len(data) and set(map(type, events)) == {dict}  # else one continues in the next
    return events if are_whole else list(map(parse, data))


def begins_stream(start: bytes) -> bool | None:
    """Returns whether `start`, the first bytes of a body, begins a stream of events; None if more bytes are needed."""
    if start != BOM and BOM.startswith(start):
        return None
    text = start.removeprefix(BOM).lstrip(b"\r\n")
    fields = [field + b":" for field in FIELDS]
    if text.startswith(tuple(fields)):
        return True
    return None if any(field.startswith(text) for field in fields) else False


class _Builder:
    """Builder of the list of server-sent events in a stream; the lines of the stream are added one by one.

    `stream` has the bytes of all lines; to add a line, the caller gives the line's position in these bytes. `events`
    has the complete events until now.
    """

    def __init__(self, stream: bytes) -> None:
        self.events: list[Event] = []
        self._stream = stream
        self._begin(0)

    def add_line(self, start: int, end: int, line_end: int) -> None:
        """Adds one line of the stream to the server-sent event that is being built; a blank line ends this event.

        `start` and `end` are the positions of the line's text in the stream. Its line end follows, up to `line_end`.
        """
        if start == end:
            if line_end > start:  # a blank line, not the end of the stream
                self.end(line_end)
            return
        line = self._stream[start:end]
        if line.startswith(BOM) and not self._lines:
            line = line[len(BOM) :]
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._set_name(value)
        elif field in (b"data", b"error"):
            if self._lines and value.strip() and self._is_first_whole():
                self._split()
            if field == b"error":
                self._set_name(b"error")
            self._lines.append(DataLine(start, end - len(value), end, line_end))
        elif line[:1] == b"{" and not self._lines and is_whole(line):
            self._lines.append(DataLine(start, start, end, line_end))

    def end(self, at: int) -> None:
        """Adds the server-sent event that is being built to `events`, unless it lacks data, and begins the next event.

        `at` is the position in the stream where the next event begins.
        """
        if self._lines:
            self._add(self._name if self._later_name is None else self._later_name, at)
        self._begin(at)

    def _begin(self, at: int, name: bytes = b"") -> None:
        """Begins a new, empty server-sent event named `name` at position `at` of the stream."""
        self._start = at
        self._name = name
        self._later_name: bytes | None = None  # a name that came after the first data line
        self._lines: list[DataLine] = []
        self._first_is_whole: bool | None = None  # None: not examined yet

    def _set_name(self, name: bytes) -> None:
        if self._lines:
            self._later_name = name
        else:
            self._name = name

    def _is_first_whole(self) -> bool:
        if self._first_is_whole is None:
            first = self._lines[0]
            self._first_is_whole = is_whole(self._stream[first.start : first.end])
        return self._first_is_whole

    def _split(self) -> None:
        """Ends the server-sent event that is being built after its last `data` line, and begins the next event.

        This is for a stream in which the blank line between two events is missing.
        """
        # The border is behind the last `data` line. An event name behind that line is the next event's.
        end, name = self._lines[-1].line_end, self._later_name
        self._add(self._name, end)
        self._begin(end, name or b"")

    def _add(self, name: bytes, end: int) -> None:
        """Adds the server-sent event that is being built to `events`, with the given name and end position."""
        lines = tuple(self._lines)
        data = b"\n".join([self._stream[line.start : line.end] for line in lines])
        self.events.append(Event(name, data, self._start, end, lines))
