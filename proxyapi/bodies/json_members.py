"""Owns the members of a JSON object with their places in its text, so that one can change and every other byte stay.

JSON is read as generously as any server may: `NaN`, numbers of any size a double or 4,300 digits can hold, control
characters in strings, names given twice, bytes that are not UTF-8. What upstream makes of them is upstream's to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from proxyapi.bodies import large_bodies

# Finding a member's place costs fifty times what reading it does; an API has a few dozen names.
MOST_MEMBERS = 10_000
_SPACES = frozenset(" \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*+")
_LONGEST_SPACE = 65536  # characters passed over at a time: between two searches the event loop gets its turn


class JSONFault(ValueError):
    """A text of JSON is not what is wanted. The words are ours and quote nothing of it."""


class Doubled(dict[str, Any]):
    """An object in which a name is given twice: the last value of each, and all of them in `pairs`."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members, for `json`'s `object_pairs_hook`."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else Doubled(pairs)


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=make_object)


class Member(NamedTuple):
    """`text[start:end]` is the member from its name on, `text[value_start:end]` its value."""

    name: str
    value: Any
    start: int
    value_start: int
    end: int


JSONObject = dict[str, Any] | Sequence[Member]  # as a dictionary, or as its members with their places


def pairs_of(body: JSONObject) -> Iterable[Sequence[Any]]:
    """The members of an object, name and value first; all of them where a name is given twice."""
    if isinstance(body, Doubled):
        return body.pairs
    return body.items() if isinstance(body, dict) else body


def decode(data: bytes) -> str:
    """The text of these bytes; `encode` gives exactly these bytes back, whatever they are."""
    if len(data) > large_bodies.LARGE_BYTES:
        return large_bodies.decode(data, "surrogateescape")
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def read_members(text: str, at: int = 0, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """The members of the object that begins at `at`, in their order; `decoder` reads their values.

    Raises:
        ValueError: it is no JSON object, or has more than `MOST_MEMBERS`; the words quote nothing of it.
        RecursionError: it is nested too deep.
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
        if len(members) > MOST_MEMBERS:
            raise JSONFault(f"it has more than {MOST_MEMBERS:,} members")
        at = past_space(text, end)
    return members


def read_object(text: str, decoder: json.JSONDecoder | None = None) -> list[Member]:
    """The members of the object that is all of `text`; raises as `read_members`."""
    members = read_members(text, decoder=decoder)
    end = text.index("}", members[-1].end if members else 0) + 1
    if past_space(text, end) != len(text):
        raise _fault("Extra data", text, end)
    return members


def _decoder_for(text: str) -> json.JSONDecoder:
    """One whose work on a large text can be interrupted, and is bounded; the usual one is twice as fast."""
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
    if text[at : at + 1] not in _SPACES:
        return at
    end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]  # it matches nothing, too
    while end - at == _LONGEST_SPACE:
        at = end
        end = _SPACE.match(text, at, at + _LONGEST_SPACE).end()  # type: ignore[union-attr]
    return end


def _fault(words: str, text: str, at: int) -> json.JSONDecodeError:
    return json.JSONDecodeError(words, text, at)
