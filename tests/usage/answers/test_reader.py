"""What the ledger reads from upstream's answers: real shapes, zero as zero, any split, and garbage without a fault."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyapi.streams.sse import EventFramer
from usage.answers.reader import AnswerReader
from usage.answers.tokens import read_counts

CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1, "accepted_prediction_tokens": 0},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": CHAT_USAGE,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5-2025-08-07",
    "service_tier": "flex",
    "status": "completed",
    "error": None,
    "output": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "web_search_call", "id": "ws_2", "status": "completed"},
        {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
    ],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 5},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 123,
    },
}
EMBEDDINGS = {
    "object": "list",
    "model": "text-embedding-3-large",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
TRANSCRIPT = {
    "text": "hi",
    "usage": {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 45,
        "total_tokens": 59,
    },
}
WHISPER = {"text": "hi", "usage": {"type": "duration", "seconds": 12.5}}
IMAGE = {
    "created": 1,
    "usage": {"input_tokens": 50, "output_tokens": 4160, "input_tokens_details": {"image_tokens": 40}},
}


def read(body: Any) -> AnswerReader:
    answer = AnswerReader()
    answer.read_body(orjson.dumps(body, option=orjson.OPT_INDENT_2))
    return answer


def streamed(*events: Any) -> bytes:
    return b"".join(
        b"data: " + (event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n\n" for event in events
    )


def read_stream(stream: bytes) -> AnswerReader:
    answer = AnswerReader()
    answer.read_events(stream)
    return answer


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (
            CHAT,
            {
                "input_tokens": 19,
                "output_tokens": 10,
                "cached_tokens": 4,
                "reasoning_tokens": 3,
                "audio_input_tokens": 2,
                "audio_output_tokens": 1,
            },
        ),
        (
            RESPONSE,
            {
                "input_tokens": 36,
                "output_tokens": 87,
                "cached_tokens": 0,
                "cache_write_tokens": 5,
                "reasoning_tokens": 64,
                "web_searches": 2,
            },
        ),
        (EMBEDDINGS, {"input_tokens": 8}),
        (TRANSCRIPT, {"input_tokens": 14, "output_tokens": 45, "audio_input_tokens": 14}),
        (WHISPER, {"audio_seconds": 12.5}),
        (IMAGE, {"input_tokens": 50, "output_tokens": 4160}),
    ],
    ids=["chat", "response", "embeddings", "transcript", "whisper", "image"],
)
def test_counts_of_a_whole_answer(body: dict[str, Any], counts: dict[str, float]) -> None:
    answer = read(body)

    assert answer.counts == counts
    assert answer.usage == body["usage"]
    assert answer.model == body.get("model", "")
    assert answer.service_tier == body.get("service_tier", "")
    assert answer.error is None


@pytest.mark.parametrize(("body", "id_"), [(CHAT, "chatcmpl-1"), (RESPONSE, "resp_1"), (EMBEDDINGS, "")])
def test_only_what_upstream_stores_has_a_response_id(body: dict[str, Any], id_: str) -> None:
    assert read(body).response_id == id_


def test_a_stated_zero_is_a_zero_and_what_is_not_stated_is_absent() -> None:
    assert read_counts({"prompt_tokens": 0, "completion_tokens": 0}) == {"input_tokens": 0, "output_tokens": 0}
    assert read_counts({"type": "duration", "seconds": 0}) == {"audio_seconds": 0}
    assert read({**RESPONSE, "output": []}).counts["web_searches"] == 0
    assert read({"object": "response", "usage": None}).counts == {}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}},
            {"type": "requests", "code": "rate_limit_exceeded", "message": "Slow down"},
        ),
        ({"error": {"message": "No", "code": None}}, {"type": "", "code": "", "message": "No"}),
        ({"error": {"code": 429}}, {"type": "", "code": "429", "message": ""}),
        ({"error": "a string"}, {"type": "", "code": "", "message": "a string"}),
        ({"error": ""}, None),
        (
            {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "Oh"}},
            {"type": "", "code": "server_error", "message": "Oh"},
        ),
    ],
)
def test_an_error_is_read(body: dict[str, Any], error: dict[str, str] | None) -> None:
    assert read(body).error == error


# Streams

CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-mini-2024-07-18", "choices": []}
CHAT_STREAM = streamed(
    {**CHUNK, "choices": [{"delta": {"content": 'the "usage" of \\"error\\"'}}], "usage": None},
    {**CHUNK, "usage": CHAT_USAGE},
    b"[DONE]",
)
RESPONSES_STREAM = streamed(
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": [], "usage": None}},
    {"type": "response.output_text.delta", "sequence_number": 1, "delta": '"usage" "error" response.completed .done'},
    {"type": "response.output_text.done", "sequence_number": 2, "text": "x"},
    {"type": "response.completed", "sequence_number": 3, "response": RESPONSE},
)
TRANSCRIPT_STREAM = streamed(
    {"type": "transcript.text.delta", "delta": "h"}, {"type": "transcript.text.done", **TRANSCRIPT}
)


@pytest.mark.parametrize(
    ("stream", "body"),
    [(CHAT_STREAM, CHAT), (RESPONSES_STREAM, RESPONSE), (TRANSCRIPT_STREAM, TRANSCRIPT)],
    ids=["chat", "responses", "transcript"],
)
@given(places=st.lists(st.integers(0)))
def test_a_stream_says_what_the_whole_answer_does_however_it_is_cut(
    stream: bytes, body: dict[str, Any], places: list[int]
) -> None:
    cuts = sorted({place % (len(stream) + 1) for place in places})
    framer, answer = EventFramer(), AnswerReader()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        answer.read_events(framer.feed(stream[start:end]))

    assert answer.counts == read(body).counts
    assert answer.usage == body["usage"]
    assert answer.model == body.get("model", "")
    assert answer.has_ended
    assert answer.error is None


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_any_line_ending_is_read(ending: bytes) -> None:
    assert read_stream(RESPONSES_STREAM.replace(b"\n", ending)).counts == read(RESPONSE).counts


@pytest.mark.parametrize(
    ("last", "finished", "failed"),
    [
        ({"type": "response.completed", "response": RESPONSE}, True, False),
        ({"type": "response.incomplete", "response": {**RESPONSE, "status": "incomplete"}}, True, False),
        (
            {"type": "response.failed", "response": {**RESPONSE, "error": {"code": "server_error", "message": "Oh"}}},
            True,
            True,
        ),
        ({"type": "error", "code": "server_error", "message": "Oh", "param": None, "sequence_number": 3}, True, True),
        ({"error": {"message": "Oh", "type": "server_error", "code": "server_error"}}, True, True),
        ({"type": "response.output_text.delta", "delta": "x"}, False, False),
    ],
)
def test_which_event_finishes_a_stream_and_which_fails_it(last: dict[str, Any], finished: bool, failed: bool) -> None:
    answer = read_stream(streamed({"type": "response.created", "response": RESPONSE}, last))

    assert answer.has_ended is finished
    assert (answer.error is not None) is failed
    if answer.error:
        assert (answer.error["code"], answer.error["message"]) == ("server_error", "Oh")


def test_who_answers_may_be_said_after_the_first_event() -> None:
    """Azure's first is of filters, and names nobody; the caller may leave before the last, which has the usage."""
    filters = {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06", "choices": []}
    answer = read_stream(streamed(filters, chunk))

    assert (answer.model, answer.response_id) == ("gpt-4o-2024-08-06", "chatcmpl-1")


def test_a_delta_that_talks_of_errors_is_none() -> None:
    answer = read_stream(streamed({"type": "response.output_text.delta", "delta": json.dumps({"error": {"a": 1}})}))

    assert answer.error is None


# Garbage

NAMES = ["usage", "error", "type", "response", "model", "output", "object", "id", "seconds", "prompt_tokens",
         "prompt_tokens_details", "cached_tokens", "service_tier", "code", "message"]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=20,
)


@given(values)
@example({"error": [2**70, float("inf")]})  # beyond what a fast writer of JSON takes
def test_odd_json_is_no_fault(value: Any) -> None:
    data = json.dumps(value).encode()
    for answer in (AnswerReader(), AnswerReader()):
        answer.read_body(data)
        answer.read_events(b"data: {}\n\ndata: " + data + b"\n\n")
        assert all(isinstance(count, int | float) and 0 <= count < 2**53 for count in answer.counts.values())
        assert all(isinstance(text, str) for text in (answer.error or {}).values())


@given(st.binary())
def test_garbage_is_no_fault(garbage: bytes) -> None:
    answer = AnswerReader()
    answer.read_body(garbage)
    answer.read_body(b"{" + garbage)
    answer.read_events(garbage)
    answer.read_events(b"data:" + garbage + b"\n\n")

    assert answer.counts == {}


def test_json_100_000_levels_deep_is_no_fault() -> None:
    answer = AnswerReader()
    answer.read_body(b'{"usage":' * 100_000)
    answer.read_events(b'data: {"usage":' + b"[" * 100_000 + b"\n\n")

    assert answer.usage is None
