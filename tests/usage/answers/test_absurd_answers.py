"""Answers that no API sends, nested thousands deep or with numbers that nothing has: reading them raises no error."""

from __future__ import annotations

import pytest

from usage.answers.errors import is_error_value
from usage.answers.reader import AnswerReader
from usage.answers.row_texts import usage_columns
from usage.answers.streamed_text import StreamedText
from usage.answers.tokens import sum_of
from usage.answers.tool_use import ToolUse


def lists(depth: int, inner: str = "1") -> str:
    return "[" * depth + inner + "]" * depth


def objects(depth: int, inner: str = "1") -> str:
    return '{"a":' * depth + inner + "}" * depth


NESTED = [build(depth) for build in (lists, objects) for depth in (300, 1020, 5000)]
NUMBERS = ["9" * 25, "9" * 4000, "9" * 6000, "1e400", "1e308", "-1", "NaN", "-Infinity", "1.5"]
ANSWERS = [
    *(f'{{"error":{value}}}' for value in (*NESTED, *NUMBERS)),
    *(f'{{"error":{{"message":{value},"code":{value}}}}}' for value in (*NESTED, *NUMBERS)),
    *(f'{{"usage":{{"prompt_tokens":1,"completion_tokens":2,"x":{value}}}}}' for value in (*NESTED, *NUMBERS)),
    *(f'{{"usage":{{"prompt_tokens":{value},"completion_tokens":{value}}}}}' for value in NUMBERS),
    *(f'{{"object":"response","output":{value},"tool_usage":{{"image_gen":{value}}}}}' for value in NESTED),
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_it_is_read(number: int) -> None:
    body = ANSWERS[number].encode()
    whole, refused, streamed = AnswerReader(), AnswerReader(), AnswerReader()
    whole.read_body(body)
    refused.read_error(body, 500)
    streamed.text, streamed.expected_pictures = StreamedText(1000), 3
    for event in (body, b'{"type":"image_generation.completed",' + body[1:]):
        streamed.read_events(b"data: " + event + b"\n\n")
        streamed.read_events(b"data: " + event + b"\n\n")
    for reader in (whole, refused, streamed):
        reader.forget_false_usage()
        usage_columns(reader, ())


def test_an_error_is_one_at_any_depth() -> None:
    value: object = ["", {"a": 0, "b": [None, False]}]
    for _ in range(5000):
        value = [{"a": value}]
    assert not is_error_value(value)
    assert is_error_value([value, {"code": "x"}])


def test_nested_counts_are_added_where_upstream_has_them() -> None:
    first = {"a": 1, "details": {"b": 2, "by_lifetime": {"c": 3}}, "d": "x"}
    assert sum_of(first, first) == {"a": 2, "details": {"b": 4, "by_lifetime": {"c": 6}}, "d": "x"}


def test_names_of_counts_are_names() -> None:
    """The database stores no NUL."""
    details = {"text_tokens": 1, "a\0b": 2, "\ud800": 3, "image_tokens": "many"}
    response = {"tool_usage": {"image_gen": {"output_tokens": 5, "output_tokens_details": details}}}
    used = ToolUse.of_response(response).other_usage()
    assert used["image_tokens"]["output_tokens_details"] == {"text_tokens": 1}
