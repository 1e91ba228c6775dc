"""Parses the JSON object in a request's body of the simple API, and makes the body for upstream from its text.

The gateway's own members are cut out of the text, and changed or new members are put in; every other byte stays as it
came. JSON is parsed strictly (RFC 8259): `NaN`, numbers beyond the range of a double and control characters in strings
are refused. A lone surrogate cannot be encoded in UTF-8, so upstream gets it as a JSON escape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import JSONBody, fault_of
from proxyapi.bodies.json_members import JSONFault, Member, make_object, read_object
from proxyapi.exceptions import BadJSON


class ReceivedObject(dict[str, object]):
    """The JSON object in a request's body: a dictionary that also keeps the original text.

    `raw` has the bytes of the text, in UTF-8. `members` has all members with their positions in `text`. If a name is
    given twice, `members` has both members, and the dictionary only the last value. `forget_text` frees these three
    attributes.
    """

    def __init__(self, raw: bytes = b"{}", text: str = "{}", members: Sequence[Member] = ()) -> None:
        super().__init__((member.name, member.value) for member in members)
        self.raw = raw
        self.text = text
        self.members = members

    def forget_text(self) -> None:
        """Frees the memory of the object's text; the dictionary keeps the values.

        Call this after the body for upstream has been made from the text.
        """
        self.raw, self.text, self.members = b"{}", "{}", ()


def parse_object(body: bytes) -> ReceivedObject:
    """Parses a request's body, which must be one JSON object in UTF-8, UTF-16 or UTF-32; a blank body counts as `{}`.

    Raises:
        BadJSON: the body is not exactly one JSON object (RFC 8259), is nested too deep, has more members than
            `json_members.MAX_MEMBERS`, or has a number out of range: beyond a double, or an integer of more than 4,300
            digits.
        BodyTooLarge: the body has more values, escapes or strings than `large_bodies.check_bounds` allows.
    """
    if not body or body.isspace():
        return ReceivedObject()
    try:
        raw = large_bodies.in_utf_8(body)
        if len(raw) > large_bodies.LARGE_BYTES:
            large_bodies.check_bounds(raw)
        try:
            text = large_bodies.decode(raw, "strict")
        except UnicodeDecodeError:
            text = large_bodies.decode(raw, "surrogatepass")
            raw = _encode(text)
        return ReceivedObject(raw, text, read_object(text, _decoder_for(raw)))
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise BadJSON(f"The request body is not valid JSON: {fault_of(error)}") from error


def edited(received: ReceivedObject, wanted: Mapping[str, object]) -> JSONBody:
    """Returns the body for upstream: the JSON text of `received`, changed so that it has exactly the members `wanted`.

    `wanted` maps names to values. If a value is the same Python object as in `received`, its original text is kept. If
    a name is given twice in `received`, only the last of these members stays.
    """
    # Of a name given twice, the gateway has checked the last value.
    edits = list(_edits(received, wanted))
    return JSONBody.written(_apply(received, edits) if edits else received.raw, wanted)


def _edits(received: ReceivedObject, wanted: Mapping[str, object]) -> Iterator[tuple[int, int, str]]:
    """Yields the edits that change a received object's text so that it has exactly the members `wanted`.

    They come in text order. An edit is `(start, end, new text)`: the new text replaces the text from `start` to `end`.
    `wanted` maps names to values.
    """
    members = received.members
    last = {member.name: at for at, member in enumerate(members)}
    kept = [at for at, member in enumerate(members) if member.name in wanted and last[member.name] == at]
    added = [_ENCODER.encode({name: value})[1:-1] for name, value in wanted.items() if name not in last]
    if added:
        start = received.text.index("{") + 1
        yield start, start, ",".join(added) + ("," if kept else "")
    last_kept = kept[-1] if kept else -1
    stays = frozenset(kept)
    for at, member in enumerate(members[: last_kept + 1]):
        if at not in stays:
            yield member.start, members[at + 1].start, ""
        elif wanted[member.name] is not member.value:
            yield member.value_start, member.end, _ENCODER.encode(wanted[member.name])
    if last_kept + 1 < len(members):  # what is cut at the end goes with the comma before it
        yield members[last_kept].end if kept else members[0].start, members[-1].end, ""


def _apply(received: ReceivedObject, edits: Sequence[tuple[int, int, str]]) -> bytes:
    """Applies edits to the text of a received object; returns the new text as bytes in UTF-8.

    An edit is `(start, end, new text)`: it replaces the text from `start` to `end`. The edits must be in text order.
    """
    text, whole = received.text, memoryview(received.raw)
    starts = [0, *(end for _, end, _ in edits)]
    ends = [*(start for start, _, _ in edits), len(text)]
    # In a text of ASCII alone, characters and bytes have the same places, and the bytes are copied only once.
    places = zip(starts, ends, strict=True)
    kept = [whole[start:end] if text.isascii() else _encode(text[start:end]) for start, end in places]
    pieces: list[bytes | memoryview] = [kept[0]]
    for (_, _, put), behind in zip(edits, kept[1:], strict=True):
        pieces += (put.encode(), behind)
    return b"".join(pieces)


def _encode(text: str) -> bytes:
    """Encodes a JSON text in UTF-8; a lone surrogate becomes a JSON escape."""
    # Only strings can have a lone surrogate.
    return text.encode("utf-8", "backslashreplace")


def _decoder_for(raw: bytes) -> json.JSONDecoder:
    """Returns a decoder for the JSON text `raw` that accepts only JSON as RFC 8259 defines it.

    The decoder for a large text pauses at numbers, so that the event loop can run meanwhile.
    """
    if len(raw) <= large_bodies.LARGE_BYTES:
        return _DECODER
    # This decoder gives up the interpreter lock between numbers.
    numbers = large_bodies.Numbers(_finite)
    return json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_constant=_refuse_constant,
        parse_int=numbers.parse_int,
        parse_float=numbers.parse_float,
    )


def _refuse_constant(name: str) -> NoReturn:
    """Raises `JSONFault` for `NaN` or `Infinity`, which Python's JSON parser accepts."""
    raise JSONFault(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    """Converts the text of a JSON number to a float; raises `JSONFault` for a number out of range, such as `1e999`."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JSONFault("a number is out of range")
    return value


# Made once, because each takes longer than to read a small body.
_DECODER = json.JSONDecoder(object_pairs_hook=make_object, parse_constant=_refuse_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
