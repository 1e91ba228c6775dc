"""Parses a JSON object with the places of its members in the text, so that one can change and every other byte stay.

JSON is parsed as leniently as any server may parse it: `NaN`, all numbers that a double or 4,300 digits can hold,
control characters in strings, names given twice, bytes that are not UTF-8. It is for upstream to decide what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

from proxyapi.bodies import large_bodies

# Finding the place of a member costs fifty times as much as parsing it. An API has a few dozen names.
MAX_MEMBERS = 10_000
_SPACES = frozenset(" \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*+")
_LONGEST_SPACE = 65536  # characters searched at a time: the event loop may run between two searches


class JSONFault(ValueError):
    """Error for a text of JSON that is no object, or not acceptable. The message quotes nothing of the text."""


class Doubled(dict[str, object]):
    """JSON object in which a name is given twice. As a dictionary it has the last values; `pairs` has all of them."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns a JSON object with these members; serves as the `object_pairs_hook` of `json`."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else Doubled(pairs)


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=make_object)


class Member(NamedTuple):
    """Member of a JSON object. `text[start:end]` is the member with its name, `text[value_start:end]` its value."""

    name: str
    value: object
    start: int
    value_start: int
    end: int


JSONObject = dict[str, object] | Sequence[Member]  # as a dictionary, or as its members with their places


@overload
def pairs_of(body: dict[str, object]) -> Iterable[tuple[str, object]]: ...
@overload
def pairs_of(body: JSONObject) -> Iterable[tuple[str, object] | Member]: ...
def pairs_of(body: JSONObject) -> Iterable[tuple[str, object] | Member]:
    """Returns the names and values of all members of a JSON object, also where a name is given twice."""
    if isinstance(body, Doubled):
        return body.pairs
    return body.items() if isinstance(body, dict) else body


def decode(data: bytes) -> str:
    """Decodes UTF-8 bytes to text, so that `encode` gives exactly the same bytes back, also if they are not UTF-8."""
    if len(data) > large_bodies.LARGE_BYTES:
        return large_bodies.decode(data, "surrogateescape")
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Encodes a text that came from `decode` to exactly the bytes that it was made from."""
    return text.encode("utf-8", "surrogateescape")


def read_members(text: str, at: int = 0, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """Returns the members of the JSON object that begins at `at`, in their order. `decoder` parses their values.

    Raises:
        ValueError: there is no JSON object, or it has more than `MAX_MEMBERS`; the message quotes nothing of it.
        RecursionError: the object is nested too deep.
    """
    if decoder is None:
        decoder = _decoder_for(text)
    at = past_space(text, at)
    if text[at : at + 1] != "{":
        raise JSONFault("it is not an object")
    members: list[Member] = []
    at = past_space(text, at + 1)
    while text[at : at + 1] != "}":
        if members:
            if text[at : at + 1] != ",":
                raise _fault("Expecting ',' delimiter", text, at)
            at = past_space(text, at + 1)
        if text[at : at + 1] != '"':
            raise _fault("Expecting property name enclosed in double quotes", text, at)
        name, colon = decoder.raw_decode(text, at)
        colon = past_space(text, colon)
        if text[colon : colon + 1] != ":":
            raise _fault("Expecting ':' delimiter", text, colon)
        value_start = past_space(text, colon + 1)
        value, end = decoder.raw_decode(text, value_start)
        members.append(Member(name, value, at, value_start, end))
        if len(members) > MAX_MEMBERS:
            raise JSONFault(f"it has more than {MAX_MEMBERS:,} members")
        at = past_space(text, end)
    return members


def read_object(text: str, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """Returns the members of the JSON object that is the whole of `text`. Raises what `read_members` raises."""
    members = read_members(text, decoder=decoder)
    end = text.index("}", members[-1].end if members else 0) + 1
    if past_space(text, end) != len(text):
        raise _fault("Extra data", text, end)
    return members


def _decoder_for(text: str) -> json.JSONDecoder:
    """Returns the JSON decoder for a text; for a large text, one that is bounded, interruptible and half as fast."""
    if len(text) <= large_bodies.LARGE_BYTES:
        return DECODER
    numbers = large_bodies.Numbers()
    return json.JSONDecoder(
        strict=False,
        object_pairs_hook=make_object,
        parse_int=numbers.parse_int,
        parse_float=numbers.parse_float,
    )


def past_space(text: str, at: int) -> int:
    """Returns the position of the next character, from a position on, that is no JSON white space."""
    if text[at : at + 1] not in _SPACES:
        return at
    end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]  # it matches nothing, too
    while end - at == _LONGEST_SPACE:
        at = end
        end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]
    return end


def _fault(words: str, text: str, at: int) -> json.JSONDecodeError:
    """Returns the error for a fault at a position in a text of JSON."""
    return json.JSONDecodeError(words, text, at)
