"""Owns the framing of server-sent events: where an event ends, and events of our own.

WHATWG HTML, 9.2: a blank line ends an event; a line ends with LF, CR LF or CR.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxyapi.exceptions import ProxyError

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
# An event longer than this is let through in pieces rather than held.
LONGEST_HELD = 1024 * 1024
SEQUENCE_NUMBER = re.compile(rb'"sequence_number":\s*([0-9]{1,18})')


class EventFramer:
    """Cuts a byte stream after its last whole event, so that nothing of ours lands inside one.

    No byte is changed, added or lost: everything fed comes out, in order. `inside_event` is true
    while a piece of an overlong event has gone out and its end has not.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.inside_event = False

    def feed(self, chunk: bytes) -> bytes:
        """What may go out now: all whole events, and pieces of an overlong one."""
        if not self._held and chunk.endswith(b"\n\n"):  # as nearly all are
            self.inside_event = False
            return chunk
        seen = max(0, len(self._held) - 2)
        self._held += chunk
        end = max(at + len(blank) if (at := self._held.rfind(blank, seen)) >= 0 else 0 for blank in BLANK_LINES)
        if end:
            self.inside_event = False
        elif len(self._held) > LONGEST_HELD:
            end = len(self._held) - 2  # what stays may be half of a blank line
            self.inside_event = True
        ready = bytes(self._held[:end])
        del self._held[:end]
        return ready

    def flush(self) -> bytes:
        """The rest: bytes after the last blank line of a stream that has ended."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def responses_error(error: ProxyError, request_id: str, last_events: bytes) -> bytes:
    """A Responses `error` event (the SDK's `ResponseErrorEvent`), numbered after the last one relayed."""
    numbers = SEQUENCE_NUMBER.findall(last_events)
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
    """`data: {"error": …}`, for chat chunks and transcript events; the SDK raises it as `APIError`."""
    return b"data: " + json.dumps(error.body(request_id)).encode() + b"\n\n"
