"""Parses a JSON object and notes the place of each member in the text, so that one can change while the rest stays.

The parser accepts all that any server may accept: `NaN`, numbers within a double's range or with up to 4,300 digits,
control characters in strings, names given twice, bytes that are not UTF-8. Upstream decides what these mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

from proxyapi.bodies import large_bodies

# Bounds the work: finding the place of a member takes fifty times as long as parsing it. Objects of an API have a few
# dozen members.
MAX_MEMBERS = 10_000
_SPACES = frozenset(" \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*+")
# A colon with as much white space around it as is usual, and a value behind it.
_COLON = re.compile(r"[ \t\n\r]{0,16}+:[ \t\n\r]{0,16}+(?![ \t\n\r])")
_LONGEST_SPACE = 65536  # characters searched at a time: the event loop may run between two searches


class JSONFault(ValueError):
    """Error for JSON that the gateway refuses, such as an array, an object with too many members, or the number `NaN`.

    The message quotes nothing of the text. Text that is no JSON at all raises `JSONDecodeError` instead.
    """


class Doubled(dict[str, object]):
    """A parsed JSON object in which at least one name is given several times.

    The dictionary itself has the last value of each name; `pairs` has all members, as pairs of name and value.
    """

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Makes a dictionary from the members of a JSON object; given to Python's `json` as its `object_pairs_hook`.

    If a name is given twice, the result is a `Doubled`, which keeps all members.
    """
    made = dict(pairs)
    return made if len(made) == len(pairs) else Doubled(pairs)


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=make_object)


class Member(NamedTuple):
    """One member of a JSON object, with its place in the text.

    `text[start:end]` is the whole member, with its name, and `text[value_start:end]` is its value.
    """

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
    """Returns the members of a JSON object as pairs of name and value. A name given twice has two pairs.

    `body` is returned unchanged if it is a sequence of `Member` already.
    """
    if isinstance(body, Doubled):
        return body.pairs
    return body.items() if isinstance(body, dict) else body


def decode(data: bytes) -> str:
    """Decodes the bytes of a JSON text to a `str` that `encode` turns into exactly the same bytes again."""
    # Bytes that are not UTF-8 become surrogates.
    return large_bodies.decode(data, "surrogateescape")


def encode(text: str) -> bytes:
    """Encodes a JSON text in UTF-8; a text that `decode` returned becomes the original bytes again."""
    return text.encode("utf-8", "surrogateescape")


def read_members(text: str, at: int = 0, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """Parses the JSON object at position `at` of `text`; returns its members in order, with their positions in `text`.

    Text after the object is ignored. `decoder` parses the names and values. The default decoder is lenient: it accepts
    `NaN`, for example.

    Raises:
        ValueError: there is no valid JSON object, or it has more than `MAX_MEMBERS` members. The message quotes nothing
            of the text.
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
        name, end_of_name = decoder.raw_decode(text, at)
        colon = _COLON.match(text, end_of_name)
        value_start = _past_colon(text, end_of_name) if colon is None else colon.end()
        value, end = decoder.raw_decode(text, value_start)
        members.append(Member(name, value, at, value_start, end))
        if len(members) > MAX_MEMBERS:
            raise JSONFault(f"it has more than {MAX_MEMBERS:,} members")
        at = past_space(text, end)
    return members


def read_object(text: str, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """Parses a text that is exactly one JSON object; returns the object's members with their positions in the text.

    `decoder` and the errors are those of `read_members`. In addition, text after the object raises `ValueError`.
    """
    members = read_members(text, decoder=decoder)
    end = text.index("}", members[-1].end if members else 0) + 1
    if past_space(text, end) != len(text):
        raise _fault("Extra data", text, end)
    return members


def _decoder_for(text: str) -> json.JSONDecoder:
    """Returns the JSON decoder to use for `text`; it is lenient, and accepts `NaN`, for example.

    For a large text, the decoder is slower, but lets other threads run meanwhile. That decoder raises `ValueError` if
    the text has too many digits in long numbers.
    """
    if len(text) <= large_bodies.LARGE_BYTES:
        return DECODER
    # A large text is decoded in a thread. This decoder gives up the interpreter lock between numbers, so the event loop
    # goes on. It takes twice the time of the other one.
    numbers = large_bodies.Numbers()
    return json.JSONDecoder(
        strict=False,
        object_pairs_hook=make_object,
        parse_int=numbers.parse_int,
        parse_float=numbers.parse_float,
    )


def past_space(text: str, at: int) -> int:
    """Skips white space in a JSON text: returns the position of the first other character, from `at` on."""
    if text[at : at + 1] not in _SPACES:
        return at
    end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]  # it always matches
    while end - at == _LONGEST_SPACE:
        at = end
        end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]  # it always matches
    return end


def _past_colon(text: str, at: int) -> int:
    """Skips a colon and the white space around it, from position `at` of a JSON text; returns the position after it.

    Raises `json.JSONDecodeError` if there is no colon.
    """
    at = past_space(text, at)
    if text[at : at + 1] != ":":
        raise _fault("Expecting ':' delimiter", text, at)
    return past_space(text, at + 1)


def _fault(words: str, text: str, at: int) -> json.JSONDecodeError:
    """Creates the JSON parser's error with the message `words`, for a mistake at position `at` of a JSON text."""
    return json.JSONDecodeError(words, text, at)
