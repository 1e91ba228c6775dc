"""An answer on its way down: each byte once and in order, at once if the caller takes it, the last after its row."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.simple_api.responses import RESPONSES_WITH_DONE
from proxyapi.streams.relay import (
    RESPONSES,
    Dialect,
    Relay,
)
from proxyapi.streams.sse import DONE
from proxyapi.v1.views import CHAT_WITHOUT_USAGE
from tests.support.servers.gateway import PATIENCE
from tests.support.upstreams.pieces import split
from tests.support.upstreams.relays import CHUNK, END, FakeCall, Wire, opened_relay

SOUND = b"sound"


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
async def relaying(dialect: Dialect | None = RESPONSES, length: int | None = None) -> AsyncIterator[Any]:
    """The same, read by a `caller`. Leaves when it has ended."""
    async with opened_relay(dialect, length) as one:
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
    assert one.row.facts.response_bytes == len(one.caller.got)
    assert b"[DONE]" not in one.caller.before_row


@given(st.binary(), st.lists(st.integers(0)), moods)
def test_every_byte_goes_out_once_and_in_order(body: bytes, places: list[int], moods: list[tuple[bool, int]]) -> None:
    one = asyncio.run(pass_on(split(body, places), moods, None))

    assert one.caller.got == one.row.read == body
    assert one.row.facts.response_bytes == len(body)


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
    assert (one.caller.got, one.row.ended, one.relay.end.is_broken) == (CHUNK % (1, b""), True, False)


@pytest.mark.parametrize("then", [b"", b"this is no chunk"], ids=["connection lost", "nonsense"])
async def test_what_has_arrived_goes_out_before_the_error(then: bytes) -> None:
    async with relaying() as one:
        one.wire.send(CHUNK % (1, b""), then)
        one.wire.die()
    assert one.caller.got.startswith(CHUNK % (1, b"") + b"event: error\n")
    assert one.relay.end.is_broken


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
