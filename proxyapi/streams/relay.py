"""Owns an answer on its way down as it arrives: bytes from upstream, a copy read for the ledger.

Most pieces leave at the moment they arrive: no task is woken for them. Those that have to wait, for the caller or
for the row, come out of `chunks`.

Invariants: bytes pass unchanged and in order; what goes out of a stream of events ends with a whole event
wherever it can, so a keep-alive or an error of ours never lands inside one; the row is written before the
bytes that finish the answer leave; `close` ends whatever has not ended, once.
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
from proxyapi.upstream.client import UpstreamAnswer
from usage.answers import event_stream
from usage.answers.event_stream import BOM
from usage.answers.reader import begins_object
from usage.models import Outcome

SendNow = Callable[[bytes], bool]


def unchanged(events: bytes) -> bytes:
    return events


@dataclass(frozen=True)
class Dialect:
    """How one family of streams says that it failed, what we add after its end, and what the caller sees of it."""

    error_event: Callable[[ProxyError, str, bytes], bytes]
    trailer: bytes = b""
    to_caller: Callable[[bytes], bytes] = unchanged
    # Whether an answer of no events lacks its end. One of some tells by them (`AnswerReader.must_end`).
    must_end: bool = False


RESPONSES = Dialect(sse.responses_error, must_end=True)
ERROR_OBJECT = Dialect(sse.error_object)  # transcripts, speech, images
CHAT = Dialect(sse.error_object, must_end=True)


@cache
def resumed(dialect: Dialect) -> Dialect:
    """The dialect of a stream that is read again from some event on: there may be none behind it."""
    return replace(dialect, must_end=False)


class Relay(ABC):
    """One answer that passes as it arrives.

    `broken` tells the handler to cut the connection instead of ending it, `takes_comments` whether a comment may go
    out after what has been sent, `has_comments` that one has gone out.
    """

    takes_comments = False
    has_comments = False

    def __init__(self, call: Call, answer: UpstreamAnswer) -> None:
        self._call = call
        self._answer = answer
        self.deadline = answer.deadline
        self.broken = False
        self.last_sent = time.perf_counter()

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> dict[str, str]:
        return self._call.headers_down(self._answer)

    async def chunks(self, send_now: SendNow) -> AsyncGenerator[bytes, None]:
        """What goes to the caller and was not taken by `send_now`, piece by piece."""
        take = partial(self._take, send_now)
        try:
            while rest := await self._answer.chunk(take):
                if self._is_over:
                    await self._end()
                yield rest
                self.takes_comments = self._between_events
        except ProxyError as error:  # of upstream, or of a form that is still going up
            if not self._is_over:
                self.fail(error)
                if words := self._last_words(error):
                    yield words
                return
        last = self._last_pieces()
        if not self.broken:
            await self._end()
        for piece in last:
            yield piece

    def fail(self, error: ProxyError) -> None:
        """The answer will not be whole."""
        self.broken = True
        self._call.fail(error, status=self._answer.status)

    @property
    def comment(self) -> bytes:
        """A comment that may go out now, if one may."""
        return sse.KEEP_ALIVE

    async def end_at_head(self) -> None:
        """Ends the answer to a HEAD, whose caller gets none of the body."""
        self._call.facts.mark_upstream_ended()
        self._call.end(Outcome.SUCCESS, self._answer.status)
        self._answer.close()
        await self._call.wait_until_recorded()

    def close(self) -> None:
        """Stops upstream. A call that has not ended by now was left by its caller."""
        self._call.end(Outcome.CLIENT_CANCELLED, self._answer.status)
        self._answer.close()

    @property
    @abstractmethod
    def _is_over(self) -> bool:
        """Whether what has come finishes the answer: it leaves after its row."""

    @abstractmethod
    def _read(self, chunk: bytes) -> bytes:
        """What the caller sees of what has come, once it is read for the ledger."""

    @property
    def _between_events(self) -> bool:
        """Whether a comment may follow what was read last."""
        return False

    def _last_words(self, error: ProxyError) -> bytes:
        """What tells the caller why the answer breaks off."""
        return b""

    def _last_pieces(self) -> list[bytes]:
        """What upstream's end adds to the answer."""
        return []

    def _take(self, send_now: SendNow, chunk: bytes) -> bytes:
        """What is left to be sent of what has come."""
        shown = self._read(chunk)
        if not shown or self._is_over or not send_now(shown):
            return shown
        self.takes_comments = self._between_events
        return b""

    def _sent(self, size: int) -> None:
        self.last_sent = time.perf_counter()
        self._call.facts.count_sent(size)

    async def _end(self) -> None:
        self._call.facts.mark_upstream_ended()
        await self._call.keep_bodies()
        outcome = Outcome.UPSTREAM_ERROR if self._call.answer.error is not None else Outcome.SUCCESS
        self._call.end(outcome, self._answer.status)
        await self._call.wait_until_recorded()


class EventRelay(Relay):
    """A stream of server-sent events."""

    def __init__(self, call: Call, answer: UpstreamAnswer, dialect: Dialect) -> None:
        super().__init__(call, answer)
        call.expect_stream()
        call.answer.must_end = dialect.must_end
        self._dialect = dialect
        self._framer = sse.EventFramer()
        self._last_events = b""
        self.takes_comments = True

    @property
    def _is_over(self) -> bool:
        return self._call.answer.has_ended

    def _read(self, chunk: bytes) -> bytes:
        events = self._framer.feed(chunk)
        return self._read_events(events) if events else b""

    def _read_events(self, events: bytes) -> bytes:
        is_first, self._last_events = not self._last_events, events
        self._call.read_events(events)
        shown = self._dialect.to_caller(events)
        if is_first and self.has_comments:
            shown = shown.removeprefix(BOM)  # it is a mark at the beginning of a stream only
        if b"error" in events or self._call.answer.error is not None:
            shown = self._call.redacted(shown)
        self._sent(len(shown))
        return shown

    @property
    def _between_events(self) -> bool:
        return not self._framer.inside_event

    @property
    def comment(self) -> bytes:
        return sse.comment_after(self._last_events)

    def _last_words(self, error: ProxyError) -> bytes:
        if not self.takes_comments:
            return b""
        return self._after_event(self._dialect.error_event(error, self._call.request.request_id, self._last_events))

    def _last_pieces(self) -> list[bytes]:
        rest = self._framer.flush()
        if rest and not self._call.answer.has_events and begins_object(rest):
            return [self._read_plain(rest)]
        pieces = [self._read_events(rest)] if rest else []
        if self._call.answer.lacks_end:
            if rest and not ends_whole(rest):
                pieces = []  # half an event would hide the error behind it
                self._last_events = b""
            self.takes_comments = self._between_events
            error = UpstreamTruncated()
            self._call.facts.mark_upstream_ended()
            self.fail(error)
            pieces.append(self._last_words(error))
        elif self._dialect.trailer and not self._call.answer.has_done_marker:
            pieces.append(self._after_event(self._dialect.trailer))
        return [piece for piece in pieces if piece]

    def _after_event(self, event: bytes) -> bytes:
        """An event of ours, apart from what was relayed last."""
        return event if sse.ends_event(self._last_events) else b"\n\n" + event

    def _read_plain(self, body: bytes) -> bytes:
        """A whole JSON answer that upstream called a stream of events."""
        self._call.read_plain(body)
        self._sent(len(body))
        return body if self._call.answer.error is None else self._call.redacted(body)


def ends_whole(events: bytes) -> bool:
    """Whether the last event of a stream, which no blank line ends, is not half of one."""
    found = event_stream.split(events)
    return not found or event_stream.is_whole(found[-1].data)


class BodyRelay(Relay):
    """Bytes that are not ours to read: sound, images, files."""

    @property
    def headers(self) -> dict[str, str]:
        """With its length, if upstream says it: so that the caller can tell the whole from a part."""
        length = self._answer.length
        return super().headers | ({} if length is None else {"content-length": str(length)})

    @property
    def _is_over(self) -> bool:
        return self._call.facts.response_bytes == self._answer.length

    def _read(self, chunk: bytes) -> bytes:
        self._sent(len(chunk))
        self._call.facts.keep_beginning(chunk)
        return chunk


class RelayResponse(HttpResponseBase):
    """A response whose body is a `Relay`; only `proxyapi.dispatch.handler` can send it."""

    streaming = True

    def __init__(self, relay: Relay) -> None:
        super().__init__(status=relay.status)
        set_passed_headers(self, relay.headers)  # its content type is upstream's, or none
        self.relay = relay
