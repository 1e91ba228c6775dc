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
from dataclasses import dataclass
from functools import partial

from django.http.response import HttpResponseBase

from proxyapi import sse, stream_usage
from proxyapi.calls import Call
from proxyapi.exceptions import ProxyError
from proxyapi.upstream import UpstreamAnswer
from usage.models import Outcome

SendNow = Callable[[bytes], bool]


def unchanged(events: bytes) -> bytes:
    return events


@dataclass(frozen=True)
class Dialect:
    """How one family of streams says that it failed, what we add after its end, and what the caller sees of it."""

    error_event: Callable[[ProxyError, str, bytes], bytes]
    trailer: bytes = b""
    shown: Callable[[bytes], bytes] = unchanged


RESPONSES = Dialect(sse.responses_error)
RESPONSES_WITH_DONE = Dialect(sse.responses_error, trailer=sse.DONE)
ERROR_OBJECT = Dialect(sse.error_object)  # chat chunks, transcripts, speech, images
CHAT_WITHOUT_USAGE = Dialect(sse.error_object, shown=stream_usage.take_out)


class Relay(ABC):
    """One answer that passes as it arrives.

    `broken` tells the handler to cut the connection instead of ending it, `takes_comments` whether a comment may go
    out after what has been sent.
    """

    takes_comments = False

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
        await self._end()
        for piece in last:
            yield piece

    def fail(self, error: ProxyError) -> None:
        """The answer will not be whole."""
        self.broken = True
        self._call.fail(error, status=self._answer.status)

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
        self._call.relayed(size)

    async def _end(self) -> None:
        self._call.upstream_ended()
        await self._call.keep_bodies()
        outcome = Outcome.UPSTREAM_ERROR if self._call.answer.error is not None else Outcome.SUCCESS
        self._call.end(outcome, self._answer.status)
        await self._call.recorded()


class EventRelay(Relay):
    """A stream of server-sent events."""

    def __init__(self, call: Call, answer: UpstreamAnswer, dialect: Dialect) -> None:
        super().__init__(call, answer)
        call.streams()
        self._dialect = dialect
        self._framer = sse.EventFramer()
        self._last_events = b""
        self.takes_comments = True

    @property
    def _is_over(self) -> bool:
        return self._call.answer.finished

    def _read(self, chunk: bytes) -> bytes:
        events = self._framer.feed(chunk)
        return self._read_events(events) if events else b""

    def _read_events(self, events: bytes) -> bytes:
        self._last_events = events
        self._call.read_events(events)
        shown = self._dialect.shown(events)
        if b"error" in events or self._call.answer.error is not None:
            shown = self._call.shown(shown)
        self._sent(len(shown))
        return shown

    @property
    def _between_events(self) -> bool:
        return not self._framer.inside_event

    def _last_words(self, error: ProxyError) -> bytes:
        if not self.takes_comments:
            return b""
        return self._dialect.error_event(error, self._call.request.request_id, self._last_events)

    def _last_pieces(self) -> list[bytes]:
        rest = self._framer.flush()
        pieces = [self._read_events(rest)] if rest else []
        if self._dialect.trailer and not self._last_events.rstrip().endswith(b"data: [DONE]"):
            separated = not self._last_events or self._last_events.endswith(sse.BLANK_LINES)
            pieces.append(self._dialect.trailer if separated else b"\n\n" + self._dialect.trailer)
        return [piece for piece in pieces if piece]


class BodyRelay(Relay):
    """Bytes that are not ours to read: sound, images, files."""

    @property
    def headers(self) -> dict[str, str]:
        """With its length, if upstream says it: so that the caller can tell the whole from a part."""
        length = self._answer.length
        return super().headers | ({} if length is None else {"content-length": str(length)})

    @property
    def _is_over(self) -> bool:
        return self._call.response_bytes == self._answer.length

    def _read(self, chunk: bytes) -> bytes:
        self._sent(len(chunk))
        self._call.keep_start(chunk)
        return chunk


class RelayResponse(HttpResponseBase):
    """A response whose body is a `Relay`; only `proxyapi.handler` can send it."""

    streaming = True

    def __init__(self, relay: Relay) -> None:
        super().__init__(status=relay.status, headers=relay.headers)
        self.relay = relay
