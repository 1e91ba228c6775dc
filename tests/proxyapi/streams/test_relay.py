"""An answer on its way down: each byte once and in order, at once if the caller takes it, the last after its row."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.exceptions import ProxyError
from proxyapi.simple.responses import RESPONSES_WITH_DONE
from proxyapi.streams.relay import (
    RESPONSES,
    BodyRelay,
    Dialect,
    EventRelay,
    Relay,
)
from proxyapi.streams.sse import DONE
from proxyapi.upstream.client import UpstreamAnswer
from proxyapi.upstream.connection import Connection
from proxyapi.v1.views import CHAT_WITHOUT_USAGE
from tests.proxyapi.streams.test_sse import split
from tests.support.servers.gateway import PATIENCE
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":"stop"}]%b}\n\n'
SOUND = b"sound"
END = b"0\r\n\r\n"  # of a body in chunks


class FakeCall:
    """A call that remembers what it was told, and when it ended."""

    def __init__(self) -> None:
        self.answer = AnswerReader()
        self.request = SimpleNamespace(request_id="req_1")
        self.response_bytes = 0
        self.read = b""
        self.ended = False
        self.error: type[ProxyError] | None = None

    def expect_stream(self) -> None:
        self.answer.text = StreamedText(0)

    def count_sent(self, size: int) -> None:
        self.response_bytes += size

    def read_events(self, events: bytes) -> None:
        self.read += events
        self.answer.read_events(events)

    def keep_start(self, chunk: bytes) -> None:
        self.read += chunk

    def upstream_ended(self) -> None: ...

    def fail(self, error: ProxyError, **_more: Any) -> None:
        self.error, self.ended = type(error), True  # itself, it would hold all that was on its way

    def end(self, *_facts: Any) -> None:
        self.ended = True

    async def keep_bodies(self) -> None: ...

    async def wait_until_recorded(self) -> None: ...


class Wire:
    """Upstream's end of a connection, and the transport at ours."""

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
        """A chunk, and what comes in the same packet."""
        if data and not self.cut:
            self.connection.data_received(b"%x\r\n%b\r\n" % (len(data), data) + then)

    def end(self) -> None:
        self.connection.data_received(END)

    def die(self) -> None:
        self.connection.connection_lost(None)


class Caller:
    """`at_once` has what left at the moment it came, `got` everything, `before_row` what came before the row's end."""

    def __init__(self, row: FakeCall) -> None:
        self.willing = True
        self.got = self.at_once = self.before_row = b""
        self._row = row

    def send_now(self, chunk: bytes) -> bool:
        if self.willing:
            self.at_once += chunk
            self._take(chunk)
        return self.willing

    async def read(self, relay: Relay) -> None:
        async with aclosing(relay.chunks(self.send_now)) as chunks:
            async for chunk in chunks:
                self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        self.got += chunk
        if not self._row.ended:
            self.before_row += chunk


@asynccontextmanager
async def opened(dialect: Dialect | None = RESPONSES, length: int | None = None) -> AsyncIterator[Any]:
    """A relay of events in this dialect, or of sound: its `wire`, its `row` and itself."""
    wire, row = Wire(), FakeCall()
    deadline = asyncio.get_running_loop().time() + 60
    asking = asyncio.create_task(wire.connection.exchange(b"", None, deadline))
    await asyncio.sleep(0)
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    request: Any = SimpleNamespace(deadline=deadline)
    call: Any = row
    answer = UpstreamAnswer(await asking, request)
    relay: Relay = BodyRelay(call, answer) if dialect is None else EventRelay(call, answer, dialect)
    try:
        yield SimpleNamespace(wire=wire, row=row, relay=relay)
    finally:
        relay.close()


@asynccontextmanager
async def relaying(dialect: Dialect | None = RESPONSES, length: int | None = None) -> AsyncIterator[Any]:
    """The same, read by a `caller`. Leaves when it has ended."""
    async with opened(dialect, length) as one:
        one.caller = Caller(one.row)
        reading = asyncio.create_task(one.caller.read(one.relay))
        await asyncio.sleep(0)
        try:
            yield one
            async with asyncio.timeout(PATIENCE):
                await reading
        finally:
            reading.cancel()


async def pass_on(pieces: Sequence[bytes], moods: Sequence[tuple[bool, int]], dialect: Dialect | None) -> Any:
    """All pieces; before each the caller is willing or not, and the loop runs a few times or not at all."""
    async with relaying(dialect) as one:
        for number, piece in enumerate(pieces):
            one.caller.willing, turns = moods[number % len(moods)]
            for _ in range(turns):
                await asyncio.sleep(0)
            one.wire.send(piece)
        one.wire.end()
    return one


moods = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1)


@given(st.lists(st.booleans(), min_size=1), st.lists(st.integers(0)), moods)
def test_every_event_goes_out_once_and_in_order(
    usual: list[bool], places: list[int], moods: list[tuple[bool, int]]
) -> None:
    """However upstream cuts them, and whenever the caller takes them; the ledger reads what it is sent."""
    fields = [b',"usage":null' if shows else b"" for shows in usual]
    sent = b"".join(CHUNK % (number, field) for number, field in enumerate(fields)) + DONE
    one = asyncio.run(pass_on(split(sent, places), moods, CHAT_WITHOUT_USAGE))

    assert one.caller.got == b"".join(CHUNK % (number, b"") for number in range(len(usual))) + DONE
    assert one.row.read == sent
    assert one.row.response_bytes == len(one.caller.got)
    assert b"[DONE]" not in one.caller.before_row


@given(st.binary(), st.lists(st.integers(0)), moods)
def test_every_byte_goes_out_once_and_in_order(body: bytes, places: list[int], moods: list[tuple[bool, int]]) -> None:
    one = asyncio.run(pass_on(split(body, places), moods, None))

    assert one.caller.got == one.row.read == body
    assert one.row.response_bytes == len(body)


async def test_an_event_leaves_at_the_moment_it_arrives() -> None:
    async with relaying() as one:
        one.wire.send(CHUNK % (1, b""))
        assert one.caller.at_once == CHUNK % (1, b"")
        one.wire.send((CHUNK % (2, b""))[:-1])
        assert one.caller.at_once == CHUNK % (1, b"")
        one.wire.send(b"\n")
        assert one.caller.at_once == one.caller.got == CHUNK % (1, b"") + CHUNK % (2, b"")
        one.wire.end()


async def test_a_later_event_does_not_overtake_one_that_waits() -> None:
    async with relaying() as one:
        one.caller.willing = False
        one.wire.send(CHUNK % (1, b""))
        one.caller.willing = True
        one.wire.send(CHUNK % (2, b""))
        assert one.caller.got == b""
        one.wire.end()
    assert one.caller.got == CHUNK % (1, b"") + CHUNK % (2, b"")


async def test_the_event_that_ends_a_stream_waits_for_the_row() -> None:
    async with relaying() as one:
        one.wire.send(CHUNK % (1, b""))
        one.wire.send(DONE)
        one.wire.end()
    assert (one.caller.before_row, one.caller.got) == (CHUNK % (1, b""), CHUNK % (1, b"") + DONE)


async def test_an_end_in_the_packet_of_the_last_event_is_seen() -> None:
    async with relaying() as one:
        one.wire.send(CHUNK % (1, b""), END)
    assert (one.caller.got, one.row.ended, one.relay.broken) == (CHUNK % (1, b""), True, False)


@pytest.mark.parametrize("then", [b"", b"this is no chunk"], ids=["connection lost", "nonsense"])
async def test_what_has_arrived_goes_out_before_the_error(then: bytes) -> None:
    async with relaying() as one:
        one.wire.send(CHUNK % (1, b""), then)
        one.wire.die()
    assert one.caller.got.startswith(CHUNK % (1, b"") + b"event: error\n")
    assert one.relay.broken


async def test_the_end_that_we_add_follows_what_went_out_at_once() -> None:
    async with relaying(RESPONSES_WITH_DONE) as one:
        one.wire.send(CHUNK % (1, b""))
        one.wire.end()
    assert one.caller.got == CHUNK % (1, b"") + DONE


@pytest.mark.parametrize("length", [2 * len(SOUND), None])
async def test_a_caller_that_has_the_last_byte_has_its_row(length: int | None) -> None:
    """Where upstream says which byte is the last; else before the end of the answer."""
    async with relaying(None, length) as one:
        for _ in range(2):
            if length is None:
                one.wire.send(SOUND)
            else:
                one.wire.connection.data_received(SOUND)
        if length is None:
            one.wire.end()
    assert one.caller.got == 2 * SOUND
    assert one.caller.before_row == (2 * SOUND if length is None else SOUND)
    assert one.row.ended


@pytest.mark.parametrize("end", [Wire.end, Wire.die, None], ids=["whole", "broken", "left by its caller"])
async def test_nothing_of_a_call_waits_for_the_collector(end: Callable[[Wire], None] | None) -> None:
    gc.disable()
    try:
        with suppress(asyncio.CancelledError):
            async with relaying() as one:
                alive = weakref.ref(one.relay)
                one.wire.send(CHUNK % (1, b""))
                if end is None:
                    raise asyncio.CancelledError
                end(one.wire)
        del one
        await asyncio.sleep(0)
        assert alive() is None
    finally:
        gc.enable()
