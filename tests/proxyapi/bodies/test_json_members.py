"""A JSON object's members are read with their places, and every byte of it can be written back."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyapi.bodies.json_members import MAX_MEMBERS, decode, encode, read_members, read_object
from tests.support.inputs.json_texts import Pairs, documents, write

chances = st.randoms(use_true_random=False)


def read_by_the_book(text: str) -> Any:
    return json.loads(text, strict=False)


@given(documents, chances)
def test_members_are_those_of_the_text(pairs: Pairs, chance: Random) -> None:
    text = write(pairs, chance)
    members = read_object(text)

    assert [member.name for member in members] == [name for name, _ in pairs]
    assert {member.name: member.value for member in members} == read_by_the_book(text)


@given(documents, chances)
def test_places_are_exact(pairs: Pairs, chance: Random) -> None:
    text = write(pairs, chance)
    rest, at = "", 0
    for member in read_object(text):
        assert read_by_the_book(text[member.value_start : member.end]) == member.value
        assert read_by_the_book("{" + text[member.start : member.end] + "}") == {member.name: member.value}
        rest += text[at : member.start]
        at = member.end
    rest += text[at:]

    assert "".join(rest.split()) == "{" + "," * (len(pairs) - 1) + "}"


@given(documents, chances, st.text(" \n\t", max_size=3))
def test_an_object_inside_a_text_is_found(pairs: Pairs, chance: Random, before: str) -> None:
    text = write(pairs, chance)

    assert [(one.name, one.value) for one in read_members(f'"x"{before}{text}, "more"', 3)] == [
        (one.name, one.value) for one in read_object(text)
    ]


@given(documents, chances, st.integers(0), st.sampled_from(["", ",", "}", "{", '"', ":", " ", "x", "\ufeff", "1"]))
@example(Pairs(), Random(0), 0, "\ufeff")
@example(Pairs(), Random(0), 2, "}")
def test_what_is_no_object_is_refused_as_the_standard_library_does(
    pairs: Pairs, chance: Random, place: int, put: str
) -> None:
    text = write(pairs, chance)
    place %= len(text) + 1
    text = text[:place] + put + text[place + (not put) :]
    try:
        expected = read_by_the_book(text)
        known = isinstance(expected, dict)
    except ValueError:
        known = False

    if known:
        assert {member.name: member.value for member in read_object(text)} == expected
    else:
        with pytest.raises(
            ValueError, match=r"^(?:Expecting|Extra|it is not|Unterminated|Invalid|Exceeds|Illegal|Unexpected)"
        ):
            read_object(text)


@given(st.binary())
@example(b"\xed\xa0\xbd\xff\xc0\xaf\xf0\x9f")
def test_any_bytes_come_back(data: bytes) -> None:
    assert encode(decode(data)) == data


@pytest.mark.parametrize("digits", [4000, 4300])
def test_a_long_integer_is_read(digits: int) -> None:
    [member] = read_object('{"a":%s}' % ("7" * digits))

    assert member.value == 7 * (10**digits - 1) // 9


def test_what_is_too_deep_or_too_long_is_said() -> None:
    with pytest.raises(RecursionError):
        read_object('{"a":' + "[" * 100_000)
    with pytest.raises(ValueError, match="digits"):
        read_object('{"a":%s}' % ("7" * 5000))


def test_only_so_many_members_are_looked_for() -> None:
    text = "{" + ",".join(['"a":1'] * MAX_MEMBERS) + "}"

    assert len(read_object(text)) == MAX_MEMBERS
    with pytest.raises(ValueError, match="it has more than 10,000 members"):
        read_object(text[:-1] + ',"a":1}')


def test_numbers_are_read_as_any_server_may() -> None:
    values = [member.value for member in read_object('{"a":1e400,"b":-Infinity,"c":NaN,"d":1E2}')]

    assert values[:2] == [float("inf"), float("-inf")]
    assert values[2] != values[2]
    assert values[3] == 100
