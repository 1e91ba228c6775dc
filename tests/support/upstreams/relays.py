"""Opens a relay over a connection to upstream without a socket, for a simulated call that records what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from proxyapi.call.call_facts import CallFacts
from proxyapi.exceptions import ProxyError
from proxyapi.keys.credentials import Credentials
from proxyapi.streams.relay import (
    RESPONSES,
    BodyRelay,
    Dialect,
    EventRelay,
    Relay,
)
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.connection import Connection
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":"stop"}]%b}\n\n'
END = b"0\r\n\r\n"  # of a body in chunks


class FakeCall:
    """Stand-in for a call whose answer is relayed: records the answer, an error, and whether the call has ended."""

    def __init__(self) -> None:
        self.answer = AnswerReader()
        self.request = SimpleNamespace(request_id="req_1", incoming_body=SimpleNamespace(call_goes_on=True))
        self.facts = CallFacts(self.request, "none", ())  # type: ignore[arg-type]  # as much of one as is used
        self.events = b""
        self.ended = False
        self.error: type[ProxyError] | None = None

    @property
    def read(self) -> bytes:
        """The bytes of the answer that the relay has passed to this call so far."""
        return self.events + self.facts.response_body

    def expect_stream(self) -> None:
        self.answer.text = StreamedText(0)

    def read_events(self, events: bytes) -> None:
        self.events += events
        self.answer.read_events(events)

    def fail(self, error: ProxyError, **_more: Any) -> None:
        self.error, self.ended = type(error), True  # itself, it would hold all that was on its way

    def end(self, *_facts: Any) -> None:
        self.ended = True

    async def keep_bodies(self) -> None: ...

    async def wait_until_recorded(self) -> None: ...


class Wire:
    """Stand-in for a connection to upstream, without a socket: what a test sends is received by the gateway's end."""

    def __init__(self) -> None:
        self.connection = Connection(lambda _: None, lambda _: None)
        self.connection.connection_made(self)  # type: ignore[arg-type]  # as much of one as is used
        self.cut = False

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True

    def get_write_buffer_size(self) -> int:
        return 0

    def send(self, data: bytes, then: bytes = b"") -> None:
        """Sends a chunk of an answer's body as upstream; the bytes `then` follow it in the same packet."""
        if data and not self.cut:
            self.connection.data_received(b"%x\r\n%b\r\n" % (len(data), data) + then)

    def end(self) -> None:
        self.connection.data_received(END)

    def die(self) -> None:
        self.connection.connection_lost(None)


@asynccontextmanager
async def opened_relay(dialect: Dialect | None = RESPONSES, length: int | None = None) -> AsyncIterator[Any]:
    """Opens a relay of an answer between two stand-ins, and yields a namespace with `relay`, `wire` and `row`.

    `wire` is the connection that the relay reads, and `row` the call. With a `dialect`, the answer is a stream of
    events; with None, it is another body, such as sound. `length` is the Content-Length of the answer; None if it comes
    in chunks.
    """
    wire, row = Wire(), FakeCall()
    deadline = asyncio.get_running_loop().time() + 60
    asking = asyncio.create_task(wire.connection.exchange(b"", None, deadline))
    await asyncio.sleep(0)
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    request = UpstreamRequest("POST", "/responses", Credentials("sk-x"), deadline)
    call: Any = row
    answer = UpstreamAnswer(await asking, request)
    relay: Relay = BodyRelay(call, answer) if dialect is None else EventRelay(call, answer, dialect)
    try:
        yield SimpleNamespace(wire=wire, row=row, relay=relay)
    finally:
        relay.end.close()
