"""Events that may be read later tell the ledger the same as events that are read at once."""

from __future__ import annotations

import json
import typing
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from usage.answers import reader as reader_module
from usage.answers.event_kinds import LARGE_BYTES, TEXT_DELTAS, is_text_chunk, is_text_delta, may_matter
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText

texts = st.sampled_from(["a", " b", "", "é", '"usage":1', "error", "\ud83d", "x" * LARGE_BYTES])
deltas = st.one_of(
    st.builds(lambda text: {"content": text}, texts),
    st.builds(lambda text: {"role": "assistant", "content": text, "refusal": None}, texts),
    st.builds(lambda text: {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": text}}]}, texts),
    st.builds(lambda text: {"tool_calls": [{"index": 1, "type": "custom", "custom": {"input": text}}]}, texts),
    st.builds(lambda text: {"reasoning_content": text, "content": None}, texts),
    st.sampled_from([{}, None, [], {"content": 3}]),
)
choices = st.lists(
    st.builds(
        lambda index, delta, reason: {"index": index, "delta": delta, "finish_reason": reason},
        *(st.sampled_from([0, 1]), deltas, st.sampled_from([None, None, None, "stop", "error"])),
    ),
    max_size=2,
)
additions = st.sampled_from([
    {}, {}, {}, {"usage": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}, {"usage": {}},
    {"error": None}, {"error": {"message": "m", "code": "c"}}, {"error": ""}, {"detail": "d"}, {"type": "ping"},
    {"object": "error", "message": "m"},
])  # fmt: skip
heads = st.sampled_from([
    {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "service_tier": "default"},
    {"object": "chat.completion.chunk", "id": "chatcmpl-1"}, {"model": "m"}, {},
])  # fmt: skip
chunks = st.builds(lambda head, choices, added: {**head, "choices": choices, **added}, heads, choices, additions)
kinds = st.sampled_from([*TEXT_DELTAS, "response.done", "response.output_item.added", "keepalive"])
typed = st.builds(
    lambda kind, text, added: {"type": kind, "output_index": 0, "delta": text, **added}, kinds, texts, additions
)
response = {"id": "resp_1", "object": "response", "model": "m", "output": []}
others = st.sampled_from([
    {"type": "response.created", "response": {**response, "status": "in_progress"}},
    {"type": "response.completed", "response": {**response, "status": "completed", "usage": {"input_tokens": 4}}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "name": "g"}},
    {"message": "m"}, {"choices": []}, {"id": "x", "detail": "d"}, {"code": 1, "msg": "m"},
])  # fmt: skip
odd_data = st.sampled_from([
    b"[DONE]", b"", b"null", b'{"id":"x"', b'{"id":"x","choices":[{"delta":{"content":"c', b'{"choices":[{}]},{"a":1}',
    b'{"choices":[{"index":0,"delta":{"content":"\\ud800"}}]}', b'{"id":"x"},5', b'{"id":"x","a":[1', b'{"id":"y"}]}',
])  # fmt: skip
written = st.builds(
    lambda event, layout: json.dumps(event, separators=layout).encode(),
    st.one_of(chunks, typed, others),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
names = st.sampled_from([b"", b"", b"", b"error", b"message", b"response.output_text.delta"])
events = st.tuples(names, st.one_of(written, written, written, odd_data))
streams = st.lists(events, max_size=40).map(
    lambda events: [b"event: %b\ndata: %b\n\n" % pair if pair[0] else b"data: %b\n\n" % pair[1] for pair in events]
)


def what_is_known(reader: AnswerReader) -> dict[str, Any]:
    return {name: value for name, value in vars(reader).items() if name.isidentifier() and not name.startswith("_")} | {
        "text": None, "lacks_end": reader.lacks_end, "tools": None if reader.tools is None else reader.other_usage
    }  # fmt: skip


def read(stream: list[bytes]) -> tuple[list[Any], list[Any]]:
    """Returns what is known after each event, and what of the text at the end."""
    reader = AnswerReader()
    text = reader.text = StreamedText(1000)
    known = []
    for event in stream:
        reader.read_events(event)
        known.append((reader.has_ended, reader.has_done_marker, reader.error, reader.usage, reader.model))
    at_the_end = [text.text(), text.size, text.measure(len), text.shows_reasoning, text.has_finished_choices]
    return known, [what_is_known(reader), *at_the_end]


@given(streams)
def test_what_is_read_later_tells_the_same(stream: list[bytes]) -> None:
    later = read(stream)
    with (
        patch.object(reader_module, "is_text_chunk", lambda name, data: False),
        patch.object(reader_module, "is_text_delta", lambda name, data: False),
    ):
        at_once = read(stream)

    assert later == at_once


@given(streams)
def test_several_events_in_one_piece_tell_the_same(stream: list[bytes]) -> None:
    assert read([b"".join(stream)])[1] == read(stream)[1]


CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [{"delta": {"content": "a"}}]}
DELTA = {"type": "response.output_text.delta", "delta": "a"}


@pytest.mark.parametrize("layout", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(
    ("is_text", "event"),
    [
        (is_text_chunk, CHUNK),
        (is_text_chunk, {**CHUNK, "usage": None}),
        (is_text_chunk, {"choices": CHUNK["choices"], "id": "chatcmpl-1"}),
        (is_text_delta, DELTA),
    ],
)
def test_usual_events_are_read_later(is_text: Any, event: dict[str, Any], layout: tuple[str, str]) -> None:
    assert is_text(b"", json.dumps(event, separators=layout).encode())


FILLING = "x" * LARGE_BYTES
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 1290,
    "input_tokens": 10,
    "output_tokens": 1290,
    "total_tokens": 1300,
}
PICTURE = {"type": "image_url", "image_url": {"url": FILLING}}
LAST_EVENTS: dict[bytes, dict[str, Any]] = {
    b"": {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "delta": {"content": None, "images": [PICTURE]}, "finish_reason": "stop"}],
        "usage": USAGE,
    },
    b"response.completed": {
        "response": {
            "id": "resp_1", "object": "response", "tools": [{"type": "image_generation"}], "status": "completed",
            "output": [{"type": "image_generation_call", "result": FILLING}], "usage": USAGE,
        },
        "sequence_number": 9,
    },
    b"image_generation.completed": {"b64_json": FILLING, "usage": USAGE, "output_format": "png"},
}  # fmt: skip


@given(st.sampled_from(sorted(LAST_EVENTS)), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_a_usage_is_read_in_whatever_order_members_come(name: bytes, is_named: bool, spaced: bool, order: Any) -> None:
    """A member inside the event may have a type of its own, of which the ledger needs nothing."""
    last: dict[str, Any] = {**LAST_EVENTS[name]}
    if name and not is_named:
        last["type"] = name.decode()
    members = list(last.items())
    order.shuffle(members)
    layout = (", ", ": ") if spaced else (",", ":")
    reader = AnswerReader()
    reader.text = StreamedText(1000)
    first = {"model": "m", "choices": []} if not name else {"type": "response.created", "response": response}
    for head, event in ((b"", first), (name if is_named else b"", dict(members))):
        line = b"event: %b\n" % head if head else b""
        reader.read_events(line + b"data: %b\n\n" % json.dumps(event, separators=layout).encode())
    reader.forget_false_usage()

    assert reader.counts.get("output_tokens") == 1290
    assert reader.has_ended == bool(name)


def types_with_response() -> set[str]:
    """The types of events of the SDK's that bring a whole response."""
    events = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
    having = (event.model_fields["type"].annotation for event in events if "response" in event.model_fields)
    return {typing.get_args(annotation)[0] for annotation in having}


@pytest.mark.parametrize("kind", sorted({*types_with_response(), "response.done", "response.cancelled"}))
def test_a_large_event_of_a_whole_response_is_read(kind: str) -> None:
    """A response repeats its instructions and tools, so each of its events may be large, and none need be the first."""
    data = json.dumps({"type": kind, "response": {"id": "resp_1", "instructions": FILLING}}).encode()
    assert may_matter(data) == (kind != "response.in_progress")


def delta_types() -> set[str]:
    """The types of events of the SDK's that bring a piece of an answer."""
    events = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
    types = {typing.get_args(event.model_fields["type"].annotation)[0] for event in events}
    return {kind for kind in types if kind.endswith(".delta")}


def test_every_piece_of_text_of_the_sdks_events_is_known() -> None:
    """One that is not known counts all the same, but takes longer. The output of a shell is no text of the model's."""
    others = {"response.audio.delta", "response.shell_call_output_content.delta"}
    assert {"response.output_text.delta", "response.shell_call_command.delta"} <= delta_types()
    assert delta_types() - others <= set(TEXT_DELTAS)


def test_few_events_wait() -> None:
    reader = AnswerReader()
    text = reader.text = StreamedText(1000)
    event = b"data: " + json.dumps(CHUNK).encode() + b"\n\n"
    waiting = []
    for _ in range(100):
        reader.read_events(event)
        waiting.append(len(text._waiting))

    assert 8 < max(waiting) < 32
    assert text.size == 100
