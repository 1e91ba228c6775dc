"""A stated usage that the answer itself shows to be false, as by servers that do not count, is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from usage.answers.reader import MAX_PARSED_BYTES, AnswerReader
from usage.answers.streamed_text import StreamedText

ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
ONLY_INPUT = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
ONLY_OUTPUT = {"prompt_tokens": 0, "completion_tokens": 4, "total_tokens": 4}
WHOLE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ONLY_TOTAL = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 13}
NOT_WHOLE = (ZEROS, ONLY_INPUT, ONLY_OUTPUT, {"prompt_tokens": 9}, {"completion_tokens": 4})


def chat(message: dict[str, Any]) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "m", "choices": [{"message": {"role": "assistant", **message}}]}


SAYS: tuple[dict[str, Any], ...] = (
    chat({"content": "hi"}), chat({"content": None, "tool_calls": [{"id": "call_1"}]}), chat({"refusal": "No."}),
    chat({"content": "", "audio": {"data": "aGk="}}), chat({"content": "", "reasoning": "Hm."}),
    {"object": "response", "output": [{"type": "message"}]}, {"data": [{"b64_json": "aGk="}]},
)  # fmt: skip
SAYS_NOTHING: tuple[dict[str, Any], ...] = (
    chat({"content": ""}), chat({"content": None}), {"object": "chat.completion", "choices": None},
    {"object": "response", "output": [], "text": {"format": {"type": "text"}}}, {"data": []}, {"text": ""},
)  # fmt: skip


def read_body(answer: dict[str, Any], usage: object) -> AnswerReader:
    reader = AnswerReader()
    reader.read_body(json.dumps({**answer, "usage": usage}).encode())
    return reader


@pytest.mark.parametrize("answer", SAYS)
def test_an_answer_with_output_has_used_both_kinds_of_tokens(answer: dict[str, Any]) -> None:
    assert all(read_body(answer, usage).usage is None for usage in NOT_WHOLE)
    assert all(read_body(answer, usage).usage == usage for usage in (WHOLE, ONLY_TOTAL))
    assert read_body(answer, ONLY_INPUT).counts.get("input_tokens") == 9
    assert "output_tokens" not in read_body(answer, ONLY_INPUT).counts


@pytest.mark.parametrize("answer", SAYS_NOTHING)
def test_an_answer_without_output_may_cost_nothing(answer: dict[str, Any]) -> None:
    assert all(read_body(answer, usage).usage == usage for usage in (*NOT_WHOLE, WHOLE, ONLY_TOTAL))


def test_not_every_answer_has_output_tokens() -> None:
    embeddings = {"object": "list", "data": [{"embedding": [0.1]}]}
    repeated = {"object": "text_completion", "choices": [{"text": "the prompt"}]}
    for answer in (embeddings, repeated):
        assert read_body(answer, {"prompt_tokens": 9, "total_tokens": 9}).usage is not None
        assert read_body(answer, ZEROS).usage is None
    assert read_body({"text": "hi"}, {"type": "duration", "seconds": 3}).usage is not None
    assert read_body({"text": "hi"}, {"type": "duration", "seconds": 0}).usage is None


def test_a_failed_response_with_zeros_is_not_billed() -> None:
    failed = {"object": "response", "status": "failed", "output": [{"type": "message"}]}
    assert read_body(failed, {"input_tokens": 0, "output_tokens": 0}).has_failed
    assert not read_body(failed, {"input_tokens": 9, "output_tokens": 4}).has_failed
    assert not read_body(failed, {"input_tokens": 9, "output_tokens": 0}).has_failed  # it broke off, and was billed


def test_searches_that_an_answer_shows_do_not_belong_to_its_usage() -> None:
    """A request that allows searches would else be estimated to have made them."""
    answer = {"object": "response", "output": [{"type": "message"}], "tools": [{"type": "web_search"}]}
    assert read_body(answer, ZEROS).counts == {"web_searches": 0}


def chunk(content: str, usage: object, finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    event = {"object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": usage}
    return b"data: %b\n\n" % json.dumps(event).encode()


END = chunk("", None, "stop")
TEXTS = [chunk("b", None)] * 40  # more than are parsed in one step
LAST = b'data: {"object":"chat.completion.chunk","model":"m","choices":[],"usage":%b}\n\n'


@pytest.mark.parametrize(
    ("events", "is_believed"),
    [
        ([chunk("a", None), END, LAST % json.dumps(WHOLE).encode()], True),
        ([chunk("a", None), LAST % json.dumps(WHOLE).encode()], True),  # it broke off behind all that counts
        ([chunk("a", None), END, LAST % json.dumps(ZEROS).encode()], False),
        ([chunk("a", WHOLE), END, LAST % json.dumps(ZEROS).encode()], True),  # zeros take back nothing
        ([chunk("a", ZEROS), chunk("b", None), END], False),
        ([chunk("a", ONLY_INPUT), chunk("b", None), END, b"data: [DONE]\n\n"], False),
        ([chunk("a", WHOLE), chunk("b", WHOLE, "stop")], True),
        ([chunk("a", WHOLE), chunk("b", WHOLE), END], True),
        ([chunk("a", WHOLE), chunk("b", WHOLE)], False),  # of the moment when it broke off
        ([chunk("a", WHOLE)], False),
        ([chunk("a", WHOLE), chunk("b", None), END], False),  # of the moment before more text came
        ([chunk("a", WHOLE), *TEXTS, END, b"data: [DONE]\n\n"], False),
        ([chunk("a", WHOLE), *TEXTS, END, LAST % json.dumps(WHOLE).encode()], True),
        ([chunk("a", WHOLE), chunk("b", None), END, LAST % json.dumps(ZEROS).encode()], False),
        ([chunk("a", None), chunk("", WHOLE), chunk("", None), END], True),  # no text came after it
        ([LAST % json.dumps(WHOLE).encode(), chunk("a", None), END], False),
        ([chunk("a", WHOLE, "stop"), chunk("b", None, "stop")], False),
    ],
)
def test_the_usage_of_a_stream(events: list[bytes], is_believed: bool) -> None:
    reader = AnswerReader()
    reader.text = StreamedText(1000)
    for event in events:
        reader.read_events(event)
    reader.forget_false_usage()
    assert (reader.usage is not None) == is_believed


@pytest.mark.parametrize("kind", ["image_generation.completed", "image_edit.completed", "speech.audio.done"])
@pytest.mark.parametrize(("usage", "is_believed"), [(WHOLE, True), (ZEROS, False), (ONLY_INPUT, False)])
def test_the_usage_of_pictures_and_speech(kind: str, usage: dict[str, int], is_believed: bool) -> None:
    reader = AnswerReader()
    reader.text = StreamedText(1000)
    reader.read_events(b"data: %b\n\n" % json.dumps({"type": kind, "usage": usage}).encode())
    reader.forget_false_usage()
    assert reader.has_ended
    assert (reader.usage is not None) == is_believed


def test_a_large_answer_has_output() -> None:
    large = {"usage": ZEROS, "choices": [{"message": {"content": "x" * MAX_PARSED_BYTES}}]}
    assert read_body(large, ZEROS).usage is None
