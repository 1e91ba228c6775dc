"""Finds where server-sent events end, and builds the gateway's own events and comments.

A blank line ends an event; `usage.answers.event_stream` lists the other marks that do, and reads the content of events.
"""

from __future__ import annotations

import json
import re

from proxyapi.bodies.json_members import DECODER
from proxyapi.exceptions import ProxyError
from usage.answers import event_stream

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_LINE = b": keep-alive\n"  # between the lines of an event, where a blank line would end it
DONE = b"data: [DONE]\n\n"
_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
_ENDS_OF_EVENTS = (*_BLANK_LINES, b"\n\r", b"\r\r\n")
_FIRST_DATA_LINE = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])data:([^\r\n]*+)[\r\n]")
# An event that is longer is passed on in pieces instead of being held until its end.
MAX_HELD_BYTES = 1024 * 1024
# Of such an event, at most about so many bytes are kept for the ledger, without its base64.
MAX_KEPT_BYTES = 4 * 1024 * 1024
# Nearly all of a very long event is a picture or sound in base64. The first characters stay: they may be half of an
# escape, such as the `n` of a line end.
_BASE64 = re.compile(rb"(?<![A-Za-z0-9+/=_-])([A-Za-z0-9+/=_-]{16})[A-Za-z0-9+/=_-]{1024,}+")
SEQUENCE_NUMBER = re.compile(rb'"sequence_number":\s*([0-9]{1,18})')


class EventFramer:
    """Splitter of a byte stream into whole server-sent events, so that comments or errors can be put between them.

    All bytes come out unchanged and in order. A very long event comes out in pieces; `inside_event` is True while only
    a part of such an event has come out.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._has_single_line_ends: bool | None = (
            None  # whether the held events are separated by single line ends; None: unknown
        )
        self.inside_event = False
        self._long_event = bytearray()  # the beginning of an event that leaves in pieces, without its base64

    def feed(self, chunk: bytes) -> bytes:
        """Takes the next bytes of an event stream, and returns all bytes up to the end of the last whole event.

        Bytes of an event that is not whole yet are held back. An event longer than `MAX_HELD_BYTES` is returned in
        pieces.
        """
        if not self._held and chunk.endswith(b"\n\n"):  # as nearly all are
            self.inside_event = False
            return chunk
        seen = max(0, len(self._held) - 2)
        self._held += chunk
        end = _end_of_last_blank_line(self._held, seen)
        if not end and not self.inside_event:
            end = self._end_by_single_line_ends(chunk)
        if end:
            self.inside_event = False
        elif len(self._held) > MAX_HELD_BYTES:
            end = len(self._held) - 2  # two bytes stay: they may be half of a blank line
            self.inside_event = True
        ready = bytes(self._held[:end])
        del self._held[:end]
        if end:
            self._has_single_line_ends = None
        return ready

    def flush(self) -> bytes:
        """Returns the bytes that are still held back; to be called after the stream has ended."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def whole_events(self, ready: bytes, *, is_last: bool = False) -> bytes:
        """Returns the whole events that end in `ready`, bytes from `feed` or `flush`, for a reader of whole events.

        An event that leaves in pieces is returned with its last piece, and without long base64 in it. `is_last` says
        that the stream has ended: an event without an end is returned, too.
        """
        if not self.inside_event and not self._long_event:  # as nearly always
            return ready
        if len(self._long_event) < MAX_KEPT_BYTES or not self.inside_event:  # other events may follow the end
            self._long_event += _BASE64.sub(rb"\1", ready)
        if self.inside_event and not is_last:
            return b""
        whole = bytes(self._long_event)
        self._long_event.clear()
        return whole

    def _end_by_single_line_ends(self, chunk: bytes) -> int:
        """Returns the end of the last whole event, for a stream without blank lines between its events.

        The end is a position in the held bytes. It is 0 for a stream with blank lines, and while fewer than two events
        are held.
        """
        # The first data line shows whether a stream is of this kind. The answer is kept, since an event may have many
        # lines.
        if self._has_single_line_ends is None:
            if not (b"\n" in chunk or b"\r" in chunk):
                return 0
            first = _FIRST_DATA_LINE.search(self._held)
            if first is None:
                return 0
            self._has_single_line_ends = event_stream.is_whole(first[1])
        if not self._has_single_line_ends:
            return 0
        # More of the last event may follow, so it does not count as whole.
        events = event_stream.split(bytes(self._held))
        return events[-2].end if len(events) > 1 else 0


def _end_of_last_blank_line(held: bytearray, start: int) -> int:
    """Returns the position after the last blank line in `held`, the bytes of a stream that were not sent on yet.

    Only blank lines that begin at the position `start` or later count; without one, the result is 0.
    """
    end = max(at + len(blank) if (at := held.rfind(blank, start)) >= 0 else 0 for blank in _BLANK_LINES)
    # LF CR may be the beginning of LF CR LF, so it counts only once the next byte has arrived.
    at = held.rfind(b"\n\r", start)
    if 0 <= at < len(held) - 2:
        end = max(end, at + 2)
    return end + 1 if end and held[end - 1 : end + 1] == b"\r\n" else end


def ends_event(events: bytes) -> bool:
    """Returns whether a new server-sent event may follow these bytes: they are empty, or end with a blank line."""
    return not events or events.endswith(_ENDS_OF_EVENTS)


def cut_data(events: bytes) -> bytes:
    """Returns the data of the last server-sent event in `events` if the data was cut off; otherwise empty bytes."""
    found = event_stream.split(events)
    return b"" if not found or event_stream.is_whole(found[-1].data) else found[-1].data


def is_cut_object(data: bytes) -> bool:
    """Returns whether `data` is the beginning of a JSON object, without its end."""
    try:
        # lenient: `NaN` or a lone surrogate in it does not mean that an end is missing
        DECODER.raw_decode(data.decode("utf-8", "replace"))
    except ValueError:
        return data[:1] == b"{"
    except RecursionError:
        pass
    return False


def comment_after(events: bytes) -> bytes:
    """Returns a keep-alive comment, which clients ignore, to send after `events`, the whole events that were sent last.

    The comment ends as they do: with a blank line or with a single line end. If `events` is empty, it ends with a blank
    line.
    """
    # To clients that follow the grammar, events with single line ends between them are one event, which a blank line
    # would cut in two.
    return KEEP_ALIVE if ends_event(events) else KEEP_ALIVE_LINE


def event_of(data: bytes) -> bytes:
    """Builds a server-sent event with this data, with a `data:` line for each line of the data."""
    return b"".join(b"data: " + line + b"\n" for line in data.splitlines() or [b""]) + b"\n"


def is_error_object(data: bytes) -> bool:
    """Returns whether a body is OpenAI's error object, `{"error": {…}}`."""
    # Clients of chats also understand this object as the data of an event.
    try:
        value = json.loads(data)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("error"), dict)


def responses_error(error: ProxyError, request_id: str, last_events: bytes) -> bytes:
    """Converts an error of the gateway to an error event of the Responses API, as bytes.

    `last_events` are the events that the caller got last. The error's sequence number follows the last one in them; it
    is 0 if they have none.
    """
    numbers = SEQUENCE_NUMBER.findall(last_events)
    # the shape of the SDK's `ResponseErrorEvent`
    event = {
        "type": "error",
        "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
        "code": error.code,
        "message": error.words,
        "param": None,
        "request_id": request_id,
    }
    return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"


def error_object(error: ProxyError, request_id: str, last_events: bytes) -> bytes:
    """Converts an error of the gateway to an error event for chats, transcripts and images: `data: {"error": …}`.

    `last_events` is not used, since these events have no sequence numbers.
    """
    # the SDK raises it as `APIError`
    return b"data: " + json.dumps(error.body(request_id)).encode() + b"\n\n"
