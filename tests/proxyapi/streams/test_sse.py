"""The framing of events: nothing lost, nothing moved, ready bytes end where an event does."""

from __future__ import annotations

import json
import re

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai._streaming import SSEDecoder
from openai.types.responses import ResponseErrorEvent

from proxyapi.exceptions import UpstreamTimeout, UpstreamUnreachable
from proxyapi.streams import sse
from proxyapi.streams.sse import EventFramer
from tests.support.upstreams.pieces import split

ENDS = [b"\n", b"\r\n", b"\r"]
PIECES = [*ENDS, b"data: {}", b"event: a", b": comment", b"x", "ö✓".encode(), b"\xff", b""]
streams = st.lists(st.sampled_from(PIECES)).map(b"".join)


def fed(framer: EventFramer, chunks: list[bytes]) -> list[bytes]:
    return [framer.feed(chunk) for chunk in chunks]


@given(streams, st.lists(st.integers(0)))
def test_everything_comes_out_once_and_in_order(stream: bytes, places: list[int]) -> None:
    framer = EventFramer()
    ready = fed(framer, split(stream, places))

    assert b"".join(ready) + framer.flush() == stream
    assert framer.flush() == b""


@given(streams, st.lists(st.integers(0)))
def test_what_is_ready_ends_with_a_blank_line(stream: bytes, places: list[int]) -> None:
    """Or with a whole event that another one follows: some servers have single line ends between events."""
    framer = EventFramer()
    for ready in fed(framer, split(stream, places)):
        assert not ready or re.search(rb"(\n\n|\r\r|\n\r\n|\n\r|\r\r\n|data: \{\}(\r|\n|\r\n))\Z", ready)
        assert not framer.inside_event


@given(st.lists(st.binary(min_size=1).filter(lambda data: not set(data) & set(b"\r\n")), min_size=1), st.data())
@pytest.mark.parametrize("end", ENDS, ids=["lf", "crlf", "cr"])
def test_whole_events_are_not_held_back(end: bytes, lines: list[bytes], data: st.DataObject) -> None:
    """However they are cut: once the blank line is here, the event goes out."""
    events = [b"data: " + line + end + end for line in lines]
    framer = EventFramer()
    out = b""
    for number, event in enumerate(events, 1):
        places = data.draw(st.lists(st.integers(0)))
        out += b"".join(fed(framer, split(event, places)))
        whole = b"".join(events[:number])
        # After a lone CR the next byte may be the LF of a CR LF; a framer may wait for it.
        assert out == whole


@given(streams, st.lists(st.integers(0)))
def test_a_comment_after_what_is_ready_changes_no_event(stream: bytes, places: list[int]) -> None:
    """A client that reads our comments sees the events that it would have seen without."""
    stream = stream.replace(b"\xff", b"")
    framer = EventFramer()
    commented = last = b""
    for ready in fed(framer, split(stream, places)):
        last = ready or last
        commented += ready + sse.comment_after(last)
    commented += framer.flush()

    assert decoded(commented) == decoded(stream)


def decoded(stream: bytes) -> list[tuple[str | None, str]]:
    return [(event.event, event.data) for event in SSEDecoder().iter_bytes(iter([stream]))]


@pytest.mark.parametrize("size", [sse.MAX_HELD_BYTES + 1, 3 * sse.MAX_HELD_BYTES])
def test_an_overlong_event_goes_out_in_pieces_and_says_so(size: int) -> None:
    framer = EventFramer()
    event = b"data: " + b"x" * size + b"\n\n"
    pieces = split(event, list(range(0, len(event), 100_000)))
    ready = b""
    for piece in pieces[:-1]:
        ready += framer.feed(piece)
        assert framer.inside_event == bool(ready)
    ready += framer.feed(pieces[-1])

    assert ready == event
    assert not framer.inside_event


def test_an_overlong_event_whose_blank_line_is_cut_ends_too() -> None:
    framer = EventFramer()
    ready = framer.feed(b"data: " + b"x" * sse.MAX_HELD_BYTES + b"\n")
    assert framer.inside_event
    ready += framer.feed(b"\n")

    assert ready.endswith(b"x\n\n")
    assert not framer.inside_event


# Events of our own


@pytest.mark.parametrize("error", [UpstreamTimeout("Upstream “slow”\n\ndata: x"), UpstreamUnreachable()])
@pytest.mark.parametrize(
    ("last_events", "number"),
    [
        (b"", 0),
        (b'data: {"sequence_number":7}\n\n', 8),
        (b'data: {"sequence_number": 7}\n\ndata: {"sequence_number":8}', 9),
    ],
)
def test_our_error_event_is_the_sdks(
    error: UpstreamTimeout | UpstreamUnreachable, last_events: bytes, number: int
) -> None:
    (event,) = SSEDecoder().iter_bytes(iter([sse.responses_error(error, "id", last_events)]))

    assert event.event == "error"
    parsed = ResponseErrorEvent.model_validate(event.json())
    assert (parsed.type, parsed.sequence_number) == ("error", number)
    assert (parsed.code, parsed.message, parsed.param) == (error.code, error.words, None)


def test_our_error_object_is_raised_by_the_sdk() -> None:
    (event,) = SSEDecoder().iter_bytes(iter([sse.error_object(UpstreamTimeout("Too slow"), "the-id", b"")]))

    body = json.loads(event.data)["error"]
    with OpenAI(api_key="none") as client:
        raised = openai.APIError(body["message"], client._client.build_request("GET", "http://x"), body=body)
    assert (raised.message, raised.type, raised.code) == ("Too slow", "upstream_error", "upstream_timeout")
    assert body["request_id"] == "the-id"
