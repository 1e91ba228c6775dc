"""Passes (relays) an answer to the caller while upstream is still sending it.

Bytes from upstream are read for the ledger (`proxyapi.call.call`) and passed on. They leave on one of two ways::

    upstream's socket: `Exchange` has received a chunk, in a callback of the event loop
      │
    _pass_on         _read_chunk: the chunk is cut after its last whole event, and the events are read for the ledger
      │
      ├─ at once ──  the caller's socket takes bytes, and more of the answer is to come: `send_now` writes them in the
      │              same callback. Nearly all events go this way. No task is woken: 7 instead of 12 µs an event
      │
      └─ waited for  everything else is returned to `Exchange`, which wakes the call's task:
                     chunks  → the socket is full: `streams.sending` waits until the caller has taken more
                             → the answer is complete: its row is written (`StreamEnd`), then the last bytes leave

Invariants: bytes pass unchanged and in order. Of an event stream, only whole events are sent wherever possible, so that
a comment or an error of the gateway never lands inside an event. The row is written before the bytes that complete the
answer are sent. `end.close` ends the call if nothing else has ended it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from django.http.response import HttpResponseBase

from proxyapi.call.call import Call
from proxyapi.exceptions import ProxyError, UpstreamTruncated
from proxyapi.streams import sse
from proxyapi.streams.response_head import set_passed_headers
from proxyapi.streams.stream_end_recording import StreamEnd
from proxyapi.upstream.answer import UpstreamAnswer
from usage.answers.event_stream import BOM
from usage.answers.reader import begins_object

# Sends bytes to the caller at once. Returns False, and sends nothing, if that would wait for the caller's socket.
SendNow = Callable[[bytes], bool]


def unchanged(events: bytes) -> bytes:
    """Returns `events` unchanged; the default for streams that the gateway does not edit."""
    return events


@dataclass(frozen=True)
class Dialect:
    """The rules for one kind of event stream, such as that of a chat.

    `error_event` makes the event that reports an error, from the error, the call's id, and the events that the caller
    got last. `trailer` is the event that must end such a stream; the gateway adds it if upstream has left it out.
    `to_caller` changes upstream's events before the caller gets them.
    """

    error_event: Callable[[ProxyError, str, bytes], bytes]
    trailer: bytes = b""
    to_caller: Callable[[bytes], bytes] = unchanged
    # Whether a stream without any event counts as cut off. Of a stream with events, the events tell
    # (`AnswerReader.lacks_end`).
    must_end: bool = False


RESPONSES = Dialect(sse.responses_error, must_end=True)
ERROR_OBJECT = Dialect(sse.error_object)  # transcripts, speech, images
CHAT = Dialect(sse.error_object, must_end=True)


@cache
def resumed(dialect: Dialect) -> Dialect:
    """Returns a copy of the rules `dialect` for a stream that a client resumes: it may end without any event.

    Upstream may have sent all events before, so none are left. Any other stream without events counts as cut off.
    """
    return replace(dialect, must_end=False)


class Relay(ABC):
    """Base class of objects that pass one answer of upstream to the caller while it arrives.

    * `end`: ends the call and writes its ledger row.
    * `may_comment`: whether a keep-alive comment may be sent now.
    * `has_commented`: whether a keep-alive comment has been sent.
    * `last_sent`: when bytes were last sent, in seconds of `time.perf_counter()`.
    """

    may_comment = False
    has_commented = False

    def __init__(self, call: Call, answer: UpstreamAnswer) -> None:
        self._call = call
        self._answer = answer
        call.request.incoming_body.call_goes_on = False  # what cannot be sent any more is not read
        self.deadline = answer.deadline
        self.end = StreamEnd(call, answer)
        self.last_sent = time.perf_counter()

    @property
    def status(self) -> int:
        """The HTTP status of upstream's answer."""
        return self._answer.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the caller, made from the headers of upstream's answer."""
        return self._call.headers_down(self._answer)

    async def chunks(self, send_now: SendNow) -> AsyncGenerator[bytes, None]:
        """Sends upstream's answer to the caller by the function `send_now`; yields the bytes that could not be sent.

        `send_now` returns False, and sends nothing, if the caller's socket is full. The answer's last bytes are always
        yielded: they wait until the call's ledger row is on disk. If the answer breaks off, the call fails, and an
        event with the error is yielded if the stream allows one.
        """
        pass_on = partial(self._pass_on, send_now)
        try:
            while unsent := await self._answer.chunk(pass_on):
                if self._is_complete:
                    # the final bytes are always yielded, since they wait for the ledger row
                    await self.end.finish()
                yield unsent
                self.may_comment = self._between_events
        except ProxyError as error:  # raised by upstream's answer, or by a form that is still being sent upstream
            if not self._is_complete:
                self.end.fail(error)
                if event := self._error_event(error):
                    yield event
                return
        final = self._final_pieces()
        if not self.end.is_broken:
            await self.end.finish()
        for piece in final:
            yield piece

    @property
    def comment(self) -> bytes:
        """The bytes of a comment that keeps the caller's connection alive; may be sent while `may_comment` is true."""
        return sse.KEEP_ALIVE

    @property
    @abstractmethod
    def _is_complete(self) -> bool:
        """True once the last bytes of upstream's answer have arrived."""

    @abstractmethod
    def _read_chunk(self, chunk: bytes) -> bytes:
        """Reads a chunk of upstream's answer for the ledger; returns the bytes to send to the caller for this chunk."""

    @property
    def _between_events(self) -> bool:
        """True if the bytes sent end with a whole event, so that a keep-alive comment can follow; by default False."""
        return False

    def _error_event(self, error: ProxyError) -> bytes:
        """Returns the event that tells the caller why the answer ends early; empty if no event may be sent now."""
        return b""

    def _final_pieces(self) -> list[bytes]:
        """Returns the last pieces of the answer for the caller, once upstream's stream has ended; often none.

        They are bytes that were held back, a last event that upstream has left out, or an error event. If the stream
        was cut off, this also makes the call fail.
        """
        return []

    def _pass_on(self, send_now: SendNow, chunk: bytes) -> bytes:
        """Reads a chunk of the answer for the ledger, and tries to send it to the caller; returns the unsent bytes.

        Bytes stay unsent if the caller's socket is full. The answer's final bytes are never sent here.
        """
        ready = self._read_chunk(chunk)
        if not ready or self._is_complete or not send_now(ready):
            return ready
        self.may_comment = self._between_events
        return b""

    def _count_sent(self, size: int) -> None:
        """Adds `size` to the bytes sent to the caller, and sets `last_sent` to now."""
        self.last_sent = time.perf_counter()
        self._call.facts.count_sent(size)


class EventRelay(Relay):
    """Object that passes server-sent events to the caller while they arrive, in whole events wherever possible."""

    def __init__(self, call: Call, answer: UpstreamAnswer, dialect: Dialect) -> None:
        super().__init__(call, answer)
        call.expect_stream()
        call.answer.must_end = dialect.must_end
        self._dialect = dialect
        self._framer = sse.EventFramer()
        self._last_events = b""
        self.may_comment = True

    @property
    def _is_complete(self) -> bool:
        return self._call.answer.has_ended

    def _read_chunk(self, chunk: bytes) -> bytes:
        events = self._framer.feed(chunk)
        return self._read_events(events, self._framer.whole_events(events)) if events else b""

    def _read_events(self, events: bytes, whole: bytes) -> bytes:
        """Reads the events in `whole` for the ledger; returns `events` for the caller, and counts them as sent.

        Both are the same, except for a very long event: its pieces come in `events`, and in `whole` it comes at its
        end. The returned events are edited as this kind of stream requires (`Dialect.to_caller`). Secrets are removed
        if the events have the word `error`, or if upstream has reported an error.
        """
        if whole:
            self._call.read_events(whole)
        passed = self._dialect.to_caller(events)
        if self.has_commented and not self._last_events:
            passed = passed.removeprefix(BOM)  # a byte order mark only counts at the very beginning of a stream
        self._last_events = events
        if events.find(b"error") >= 0 or self._call.answer.error is not None:
            passed = self._call.redacted(passed)
        self._count_sent(len(passed))
        return passed

    @property
    def _between_events(self) -> bool:
        return not self._framer.inside_event

    @property
    def comment(self) -> bytes:
        return sse.comment_after(self._last_events)

    def _error_event(self, error: ProxyError) -> bytes:
        if not self.may_comment:
            return b""
        return self._after_event(self._dialect.error_event(error, self._call.request.request_id, self._last_events))

    def _final_pieces(self) -> list[bytes]:
        rest, had_ended = self._framer.flush(), self._is_complete
        whole = self._framer.whole_events(rest, is_last=True)
        if whole and not self._call.answer.has_events and begins_object(whole):
            return [self._read_json(rest, whole)]
        pieces = [self._read_events(rest, whole)] if rest else []
        cut = sse.cut_data(whole)
        if self._call.answer.lacks_end or (sse.is_cut_object(cut) and not had_ended):
            if cut:
                pieces = []  # half an event would hide the error behind it
                self._last_events = b""
            self.may_comment = self._between_events
            error = UpstreamTruncated()
            self._call.facts.mark_upstream_ended()
            self.end.fail(error)
            pieces.append(self._error_event(error))
        elif self._dialect.trailer and not self._call.answer.has_done_marker:
            pieces.append(self._after_event(self._dialect.trailer))
        return [piece for piece in pieces if piece]

    def _after_event(self, event: bytes) -> bytes:
        """Returns the gateway's own `event`, with a blank line before it if the bytes sent last end within an event."""
        return event if sse.ends_event(self._last_events) else b"\n\n" + event

    def _read_json(self, rest: bytes, body: bytes) -> bytes:
        """Reads for the ledger a JSON `body` that upstream has wrongly labelled as an event stream.

        Returns the `rest` of it that was not sent yet, and counts this as sent. If the body is an error, secrets are
        removed.
        """
        self._call.read_plain(body)
        self._count_sent(len(rest))
        return rest if self._call.answer.error is None else self._call.redacted(rest)


class BodyRelay(Relay):
    """Object that passes an answer that is no event stream (such as sound or a file) to the caller while it arrives."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the caller, with a Content-Length if upstream has stated one."""
        # By the length, a caller notices missing bytes.
        length = self._answer.length
        return super().headers | ({} if length is None else {"content-length": str(length)})

    @property
    def _is_complete(self) -> bool:
        return self._call.facts.response_bytes == self._answer.length

    def _read_chunk(self, chunk: bytes) -> bytes:
        self._count_sent(len(chunk))
        self._call.facts.keep_beginning(chunk)
        return chunk


class RelayResponse(HttpResponseBase):
    """A Django response whose body comes from a `Relay`; only `proxyapi.dispatch.asgi_handler` can send it."""

    streaming = True

    def __init__(self, relay: Relay) -> None:
        super().__init__(status=relay.status)
        set_passed_headers(self, relay.headers)  # its content type is upstream's, or none
        self.relay = relay
