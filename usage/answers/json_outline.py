"""Reads JSON that is too large or too odd for a parser: `read_outline`, and `read_end` for what that does not reach.

An outline is the value that `json.loads` would return, without its large parts: long strings, and arrays of values
other than objects. The reader goes by the positions of brackets and quotes, and builds only small values. So it can
read JSON at which a parser gives up: with a lone surrogate, `NaN`, bytes that are not UTF-8, thousands of levels, text
behind the object, or no end at all.

Invariants: it never raises; each step takes well under a millisecond, so that a thread that reads an outline lets other
threads run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

SMALL_BYTES = 64 * 1024  # a value of at most this size is parsed, if a parser can
MAX_DEPTH = 6  # levels at which values larger than `SMALL_BYTES` are looked into
MAX_STEPS = 1_000_000  # brackets, strings and members, before the reader gives up

_STEP_BYTES = 64 * 1024
_NO_MARK = re.compile(rb'[^"\[\]{}]*+')
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^\s,\[\]{}\"]{1,5000}+")


class PartialOutline(dict[str, object]):
    """The outline of a JSON object with so many values that the reader has stopped before the object's end."""


class _GivenUp(Exception):
    """Exception that ends the reading of a JSON value: the text ends too early, is no JSON, or takes too many steps."""


def read_outline(body: bytes, wanted: Collection[str] | None = None) -> dict[str, object]:
    """Returns the members of the JSON object in `body` without their large parts, quickly even if `body` is large.

    A long string becomes None, a large array keeps only the objects at its start, and large nested objects are read
    down to `MAX_DEPTH` levels. If the JSON is invalid, the members in front of the fault are returned; if it is no
    object, an empty dict. `wanted` names the members to return, by default all. If `MAX_STEPS` do not suffice, the
    result is a `PartialOutline`.
    """
    reader = _Outline(body)
    members = reader.read_object(0, MAX_DEPTH, wanted)
    return PartialOutline(members) if reader.is_exhausted else members


def read_end(body: bytes, name: str) -> dict[str, object]:
    """Returns the last members of the JSON object in `body`, from the one called `name` on, however large the rest is.

    Only the last `SMALL_BYTES` are read. If they do not begin such a member, or the JSON has no end, the result is an
    empty dict.
    """
    end = body[-SMALL_BYTES:]
    at = end.rfind(b'"%b"' % name.encode())
    # A name begins here, and not the rest of a longer one with a quotation mark in it.
    is_name = end[: max(at, 0)].rstrip()[-1:] in (b"{", b",")
    # This is a member of the outermost object, since no other one ends where the body ends.
    members = _parse(b"{" + end[at:]) if is_name else None
    return members if isinstance(members, dict) else {}


class _Outline:
    """Reader that finds values in one JSON body by their positions, and leaves out large values.

    All methods together take at most `MAX_STEPS` steps, so that no body can keep the reader busy for long.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._steps = 0

    @property
    def is_exhausted(self) -> bool:
        """True once the reader has stopped because it took `MAX_STEPS`; what follows in the body has not been read."""
        return self._steps > MAX_STEPS

    def read_object(self, at: int, depth: int, wanted: Collection[str] | None = None) -> dict[str, object]:
        """Returns the members of the JSON object at position `at`, or only those in `wanted`; long strings become None.

        Large objects and arrays among the members are read down to `depth` levels; deeper ones become None. From broken
        JSON, the members before the fault are returned.
        """
        members: dict[str, object] = {}
        try:
            at = self._expect(b"{", at)
            while self._body[at : at + 1] == b'"':
                name_end = self._skip_string(at)
                name = _parse(self._body[at:name_end])
                value_at = self._expect(b":", name_end)
                end = self._skip(value_at)
                if isinstance(name, str) and (wanted is None or name in wanted):
                    members[name] = self._value(value_at, end, depth)
                at = self._expect(b",", end)
        except _GivenUp:
            pass
        return members

    def _array(self, at: int, depth: int) -> list[object]:
        """Returns the first elements of the JSON array at position `at`, up to the first one that is not an object.

        Small objects are returned whole. Large ones are read down to `depth` more levels, without their long strings.
        """
        items: list[object] = []
        try:
            at = self._expect(b"[", at)
            while self._body[at : at + 1] == b"{":
                end = self._skip(at)
                items.append(self._value(at, end, depth))
                at = self._expect(b",", end)
        except _GivenUp:
            pass
        return items

    def _value(self, at: int, end: int, depth: int) -> object:
        """Returns the JSON value between the positions `at` and `end` of the body; large parts of it are left out.

        A value of up to `SMALL_BYTES` is returned whole, if it is valid JSON. Other objects and arrays are read down to
        `depth` levels. Everything else becomes None.
        """
        first = self._body[at : at + 1]
        value = None
        if end - at <= SMALL_BYTES:
            value = _parse(self._body[at:end])
        if value is None and depth and first == b"{":
            return self.read_object(at, depth - 1)
        if value is None and depth and first == b"[":
            return self._array(at, depth - 1)
        return value

    def _expect(self, mark: bytes, at: int) -> int:
        """Checks that the character `mark` comes next in the body at position `at`; returns the position behind it.

        White space on both sides of `mark` is skipped.

        Raises:
            _GivenUp: another character comes next.
        """
        at = self._past_space(at)
        if self._body[at : at + 1] != mark:
            raise _GivenUp
        return self._past_space(at + 1)

    def _skip(self, at: int) -> int:
        """Returns the position right behind the JSON value that begins at `at`, without parsing the value.

        Raises:
            _GivenUp: no value begins there, or the value does not end.
        """
        first = self._body[at : at + 1]
        if first == b'"':
            return self._skip_string(at)
        if first not in {b"[", b"{"}:
            scalar = _SCALAR.match(self._body, at)
            if scalar is None:
                raise _GivenUp
            return scalar.end()
        depth, at = 1, at + 1
        while depth:
            at = self._next_mark(at)
            mark = self._body[at : at + 1]
            if mark == b'"':
                at = self._skip_string(at)
            else:
                depth += 1 if mark in {b"[", b"{"} else -1
                at += 1
        return at

    def _next_mark(self, at: int) -> int:
        """Returns the position of the next bracket or quotation mark in the JSON body, at `at` or later.

        Raises:
            _GivenUp: there is none, or the reader has taken too many steps.
        """
        self._count_step()
        end = _end(_NO_MARK, self._body, at)
        if end == len(self._body):
            raise _GivenUp
        return end

    def _skip_string(self, at: int) -> int:
        """Returns the position right behind the JSON string whose first quotation mark is at `at`.

        Raises:
            _GivenUp: the string does not end, or the reader has taken too many steps.
        """
        self._count_step()
        at += 1
        quote = self._body.find(b'"', at)
        if quote < 0:
            raise _GivenUp
        if self._body[quote - 1 : quote] == b"\\":
            quote = at
            while self._body[quote : quote + 1] != b'"':
                end = _STRING.match(self._body, quote, quote + _STEP_BYTES).end()  # type: ignore[union-attr]  # there is always a match, as in `_end`
                if end == quote:
                    raise _GivenUp
                quote = end
        return quote + 1

    def _past_space(self, at: int) -> int:
        """Returns the position of the first byte at `at` or later that is not white space."""
        return _end(_SPACE, self._body, at)

    def _count_step(self) -> None:
        self._steps += 1
        if self.is_exhausted:
            raise _GivenUp


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    """Returns the position behind the bytes at `at` that match `pattern`; `at` itself if none match.

    `pattern` must match a run of one kind of byte, such as white space, of any length, also of none.
    """
    # In steps, because other threads do not run during one.
    while (end := pattern.match(body, at, at + _STEP_BYTES).end()) - at == _STEP_BYTES:  # type: ignore[union-attr]  # there is always a match, if only an empty one
        at = end
    return end


def _parse(data: bytes) -> object:
    """Parses JSON, even with invalid UTF-8 or control characters in it; returns None if Python cannot parse it."""
    try:
        parsed: object = json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return None
    return parsed
