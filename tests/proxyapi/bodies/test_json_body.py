"""A request's JSON body: parsed once, with all values of a name, and with words of ours for what is wrong with it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from proxyapi.bodies.json_body import NO_BODY, JSONBody, fault_of, read_json_body
from proxyapi.exceptions import BadJSON, UnsupportedMediaType


def test_the_last_value_of_a_name_counts_and_all_are_kept() -> None:
    body = JSONBody.parse(b'{"model": "a", "stream": true, "model": "b", "stream": 1}')

    assert (body.model, body.stream) == ("b", False)
    assert list(body.values("model")) == ["a", "b"]
    assert list(body.values("n")) == []


def test_a_body_that_names_nothing_says_so() -> None:
    assert (NO_BODY.model, NO_BODY.stream, NO_BODY.size) == ("", None, 0)
    assert JSONBody.parse(b'{"model": 7}').model == ""


def test_a_body_that_was_written_here_has_the_same_values() -> None:
    body = JSONBody.written(b'{"model":"a","stream":true}', {"model": "a", "stream": True})

    assert (body.model, body.stream, body.size) == ("a", True, 27)


def test_other_bytes_keep_the_members() -> None:
    longer = JSONBody.parse(b'{"model": "a"}').with_raw(b'{"n":1,"model": "a"}')

    assert (longer.model, longer.raw, longer.text) == ("a", b'{"n":1,"model": "a"}', "")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[]", "it is not an object"),
        (b'{"a": 1', "Expecting ',' delimiter at line 1 column 8"),
        (b'{"a": %s}' % (b"1" * (sys.get_int_max_str_digits() + 1)), "a number is out of range"),
    ],
)
def test_what_is_wrong_is_said_without_the_text(raw: bytes, words: str) -> None:
    """The last one is CPython's error, whose words are not looked at."""
    with pytest.raises(BadJSON, match=f"^The request body is not valid JSON: {words}"):
        asyncio.run(read_json_body(raw, "application/json"))


def test_a_body_that_is_not_utf_8_is_named_as_such() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()

    assert fault_of(caught.value) == "it is not UTF-8"


def test_a_body_of_another_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/plain"):
        asyncio.run(read_json_body(b"{}", "text/plain; charset=utf-8"))
