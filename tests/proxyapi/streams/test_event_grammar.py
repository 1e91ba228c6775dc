"""Every spelling of a stream is read alike: by the relay, the ledger, the kept text, and the taking out of usage."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxyapi.streams import sse
from proxyapi.streams.chat_usage_removal import remove_usage
from proxyapi.streams.sse import EventFramer
from tests.support.thoroughness import some
from usage.answers import event_stream
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText

BOM = b"\xef\xbb\xbf"
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "compact": {"separators": (",", ":")},
    "spaced": {},
    "on several lines": {"indent": 2},
}
BEFORE = {
    "data only": [],
    "a name": ["event: chunk"],
    "an id": ["id: 7", "retry: 3000"],
    "a comment": [": ping", ':"usage":null'],
    "no value": ["event", "id:", "unknown: x"],
}


def chunk(text: str | None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None}
    return {**CHUNK, "choices": [choice | ({"finish_reason": "stop"} if text is None else {})], **more}


def chat(*, with_usage: bool) -> list[dict[str, Any]]:
    """The chunks of an answer `Hé "usage"`, as upstream sends them if usage was asked for, and if not."""
    more = {"usage": None} if with_usage else {}
    chunks = [chunk("Hé", **more), chunk(' "usage"', **more), chunk(None, **more)]
    return [*chunks, {**CHUNK, "choices": [], "usage": USAGE}] if with_usage else chunks


def spelled(chunks: list[dict[str, Any]], *, end: str, layout: str, before: str, space: str = " ") -> bytes:
    events = []
    for data in [*(json.dumps(one, **LAYOUTS[layout]) for one in chunks), "[DONE]"]:
        lines = [*BEFORE[before], *(f"data:{space}{line}" for line in data.split("\n"))]
        events.append("".join(line + end for line in [*lines, ""]))
    return "".join(events).encode()


def cuts(stream: bytes, up_to: int | None = None) -> Iterator[list[bytes]]:
    """The stream byte by byte, whole, and in two pieces cut at every byte of its first `up_to`."""
    yield [stream[at : at + 1] for at in range(len(stream))]
    for at in range(len(stream[:up_to])):
        yield [stream[:at], stream[at:]] if at else [stream]


def passed(pieces: list[bytes]) -> tuple[bytes, bytes, AnswerReader]:
    """What the relay would send of these pieces, unchanged and without usage, and what was read."""
    framer, answer = EventFramer(), AnswerReader()
    answer.text = StreamedText(1000)
    out = []
    for piece in pieces:
        if events := framer.feed(piece):
            answer.read_events(events)
            out.append(events)
    if rest := framer.flush():
        answer.read_events(rest)
        out.append(rest)
    return b"".join(out), b"".join(map(remove_usage, out)), answer


SPELLINGS = list(itertools.product(ENDS, LAYOUTS, BEFORE))


@pytest.mark.parametrize(("end", "layout", "before"), SPELLINGS, ids=[", ".join(names) for names in SPELLINGS])
@pytest.mark.parametrize("start", [b"", BOM], ids=["", "BOM"])
def test_every_spelling_is_read_however_it_is_cut(end: str, layout: str, before: str, start: bytes) -> None:
    spelling = {"end": ENDS[end], "layout": layout, "before": before}
    sent = start + spelled(chat(with_usage=True), **spelling)
    wanted = start + spelled(chat(with_usage=False), **spelling)
    # A byte order mark changes how the first event is read; cuts behind that one are tried without it.
    end_of_first = len(start + spelled(chat(with_usage=True)[:1], **spelling))
    for pieces in some(cuts(sent, up_to=end_of_first if start else None)):
        out, shown, answer = passed(pieces)
        assert out == sent
        assert shown == wanted
        assert (answer.usage, answer.model, answer.has_ended) == (USAGE, "gpt-4o-mini", True)
        assert answer.text is not None
        assert answer.text.text() == 'Hé "usage"'


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("space", ["", " ", "  "])
def test_a_single_line_end_between_events_is_enough(end: str, space: str) -> None:
    chunks = [json.dumps(one, separators=(",", ":")) for one in chat(with_usage=True)]
    sent = "".join(f"data:{space}{data}{end}" for data in [*chunks, "[DONE]"]).encode()
    wanted = [json.dumps(one, separators=(",", ":")) for one in chat(with_usage=False)]
    for pieces in some(cuts(sent)):
        out, shown, answer = passed(pieces)
        assert out == sent
        assert shown == "".join(f"data:{space}{data}{end}" for data in [*wanted, "[DONE]"]).encode()
        assert (answer.usage, answer.has_ended) == (USAGE, True)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("before", [b"", b"event: chunk", b"id: 1", b": comment"])
def test_an_event_goes_out_at_the_latest_with_the_next(end: bytes, before: bytes) -> None:
    framer = EventFramer()
    event = (before + end if before else b"") + b'data: {"a":1}' + end
    assert framer.feed(event) == b""
    assert framer.feed(event) == event
    assert framer.flush() == event


def test_events_with_single_line_ends_keep_their_names() -> None:
    stream = b'event: a\ndata: {"n":1}\nevent: b\ndata: {"n":2}\nid: 3\n\nevent: c\ndata: {"n":3}\n\n'

    assert event_stream.read(stream) == [(b"a", b'{"n":1}'), (b"b", b'{"n":2}'), (b"c", b'{"n":3}')]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"data\ndata:\n\n", [(b"", b"\n")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"data: a\nevent: late\n\n", [(b"late", b"a")]),
        (b"event: x\n\ndata: a\n\n", [(b"", b"a")]),
        (b": c\n\n\n\nid: 1\n\n", []),
        (b"Data: a\n data: b\n\n", []),
        (b"data: a", [(b"", b"a")]),
        (b"data: a\n\r\ndata: b\r\r\ndata: c\n\rdata: d\r\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c"), (b"", b"d")]),
        (BOM + b"data: a\r\r" + BOM + b"data: b\r\r", [(b"", b"a"), (b"", b"b")]),
        (b'data: {"a":\ndata: 1}\ndata: {"b":2}\n\n', [(b"", b'{"a":\n1}\n{"b":2}')]),
        (b'data: {"a":1}\ndata:\n\n', [(b"", b'{"a":1}\n')]),
        (b'error: {"code":500}\n\n', [(b"error", b'{"code":500}')]),
        (b"event: a\ndata: b\n\nevent: c\r\ndata: d\r\n\r\n", [(b"a", b"b"), (b"c", b"d")]),
        (b"data: \xff\x00\n\n", [(b"", b"\xff\x00")]),
    ],
)
def test_the_grammar(stream: bytes, events: list[tuple[bytes, bytes]]) -> None:
    assert event_stream.read(stream) == events
    assert [(event.name, event.data) for event in event_stream.split(stream)] == events
    for pieces in cuts(stream):
        framer = EventFramer()
        ready = [*(framer.feed(piece) for piece in pieces), framer.flush()]
        assert b"".join(ready) == stream
        assert [event for piece in ready for event in event_stream.read(piece)] == events


def test_a_comment_between_single_line_ends_ends_no_event() -> None:
    assert sse.comment_after(b"data: {}\n\n") == sse.comment_after(b"") == b": keep-alive\n\n"
    assert sse.comment_after(b"data: {}\n") == b": keep-alive\n"


def test_what_is_between_the_data_lines_of_an_event_stays() -> None:
    sent = b'id: 1\ndata: {"choices": [1],\n: ping\ndata:   "usage": null,\nretry: 5\ndata: "b": 2}\n\n'

    assert remove_usage(sent) == b'id: 1\ndata: {"choices": [1],\n: ping\nretry: 5\ndata: "b": 2}\n\n'.replace(
        b'[1],\n: ping\nretry: 5\ndata: "b"', b'[1]\n: ping\ndata: ,\nretry: 5\ndata: "b"'
    )


@pytest.mark.parametrize(
    ("start", "begins"),
    [
        (b"", None),
        (b"\xef\xbb", None),
        (BOM + b"\r\n", None),
        (b"dat", None),
        (b"data", None),
        (b"data:", True),
        (BOM + b"data: {", True),
        (b"\n\nevent: x", True),
        (b": ping", True),
        (b"id:1", True),
        (b"error: {}", True),
        (b"{", False),
        (b"[", False),
        (b"datum", False),
        (b"1\n00:00:00", False),
        (b"WEBVTT", False),
        (b"ID3", False),
        (b" data: x", False),
    ],
)
def test_what_begins_as_a_stream_of_events(start: bytes, begins: bool | None) -> None:
    assert event_stream.begins_stream(start) is begins


# What upstream adds beside usage

TIMINGS = {"prompt_n": 3, "predicted_ms": 12.5}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("order", list(itertools.permutations(["choices", "usage", "timings"])))
def test_what_is_said_beside_usage_stays(layout: str, end: str, order: tuple[str, ...]) -> None:
    """With a choice that says nothing: who has not asked for usage may rely on one."""
    facts = {"choices": [], "usage": USAGE, "timings": TIMINGS}
    last = {**CHUNK, **{name: facts[name] for name in order}}
    sent = spelled([chunk("a", usage=None), last], end=end, layout=layout, before="an id")
    events = event_stream.read(remove_usage(sent))

    seen = json.loads(events[1][1])
    choices = [{"index": 0, "delta": {}, "finish_reason": None}]
    assert seen == {**CHUNK, "choices": choices, "timings": TIMINGS}
    assert [name for name in seen if name in order] == [name for name in order if name != "usage"]
    assert events[2][1] == b"[DONE]"


@pytest.mark.parametrize(
    "extra", [{"timings": 0}, {"a": False}, {"x_groq": {"id": "r"}}, {"citations": ["https://a"], "provider": None}]
)
def test_any_member_that_says_something_stays(extra: dict[str, Any]) -> None:
    sent = spelled([{**CHUNK, "choices": [], "usage": USAGE, **extra}], end="\n", layout="compact", before="data only")
    (_, data), _ = event_stream.read(remove_usage(sent))
    seen = json.loads(data)

    assert seen.items() >= extra.items()
    assert "usage" not in seen


@pytest.mark.parametrize("extra", [{}, {"service_tier": "default"}, {"a": None, "b": [], "c": {}, "d": ""}])
def test_a_chunk_that_says_nothing_else_goes(extra: dict[str, Any]) -> None:
    sent = spelled([{**CHUNK, "choices": [], "usage": USAGE, **extra}], end="\n", layout="spaced", before="a comment")

    assert remove_usage(sent) == spelled([], end="\n", layout="spaced", before="a comment")
