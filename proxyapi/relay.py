"""Owns a streamed answer on its way down: bytes from upstream, a copy read for the ledger.

Invariants: bytes pass unchanged and in order; what goes out ends with a whole event wherever it
can, so a keep-alive or an error of ours never lands inside one; the row is written before the
bytes that finish the stream leave; `aclose` ends whatever has not ended, once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from django.http.response import HttpResponseBase

from proxyapi import sse
from proxyapi.calls import Call
from proxyapi.exceptions import ProxyError, UpstreamFailure
from proxyapi.upstream import UpstreamAnswer
from usage.ledger import ledger
from usage.models import Outcome


@dataclass(frozen=True)
class Dialect:
    """How one family of streams says that it failed, and what we add after its end."""

    error_event: Callable[[ProxyError, str, bytes], bytes]
    trailer: bytes = b""


RESPONSES = Dialect(sse.responses_error)
RESPONSES_WITH_DONE = Dialect(sse.responses_error, trailer=sse.DONE)
TRANSCRIPT = Dialect(sse.error_object)


class Relay:
    """One stream of events. `broken` tells the handler to cut the connection instead of ending it."""

    def __init__(self, call: Call, answer: UpstreamAnswer, dialect: Dialect) -> None:
        self._call = call
        call.streams()
        self._answer = answer
        self._dialect = dialect
        self._framer = sse.EventFramer()
        self._last_events = b""
        self.deadline = answer.deadline
        self.broken = False
        self.last_sent = time.perf_counter()

    @property
    def between_events(self) -> bool:
        return not self._framer.inside_event

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What goes to the caller, piece by piece."""
        try:
            async for chunk in self._answer.chunks():
                if events := self._framer.feed(chunk):
                    yield await self._passed(events)
        except UpstreamFailure as error:
            if not self._call.answer.finished:
                self.broken = True
                self._call.fail(error, status=self._answer.status)
                if self.between_events:
                    yield self._dialect.error_event(error, str(self._call.request.request_id), self._last_events)
                return
        if rest := self._framer.flush():
            yield await self._passed(rest)
        await self._end()
        if self._dialect.trailer and not self._last_events.rstrip().endswith(b"data: [DONE]"):
            separated = not self._last_events or self._last_events.endswith(sse.BLANK_LINES)
            yield self._dialect.trailer if separated else b"\n\n" + self._dialect.trailer

    async def _passed(self, events: bytes) -> bytes:
        self._last_events = events
        self.last_sent = time.perf_counter()
        self._call.relayed(len(events))
        self._call.answer.read_events(events)
        if self._call.answer.finished:
            await self._end()
        return events

    async def _end(self) -> None:
        self._call.upstream_ended()
        failed = self._call.answer.error is not None
        self._call.end(Outcome.UPSTREAM_ERROR if failed else Outcome.SUCCESS, self._answer.status)
        await ledger.durable()

    async def aclose(self) -> None:
        """Stops upstream. A call that has not ended by now was left by its caller."""
        self._call.end(Outcome.CLIENT_CANCELLED, self._answer.status)
        await self._answer.aclose()


class RelayResponse(HttpResponseBase):
    """A response whose body is a `Relay`; only `proxyapi.handler` can send it."""

    streaming = True

    def __init__(self, relay: Relay, status: int, headers: dict[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self.relay = relay
