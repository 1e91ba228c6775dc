"""Owns secrets that are written in base64 or in hexadecimal digits: where a given one stands, and where a token does.

Base64 encodes three bytes as four letters, so a secret has three forms, after as many bytes as come before it. Each is
looked for by short parts first, which costs next to nothing in a text that has none of them.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

Span = tuple[int, int]

SHORTEST = 8  # characters of a secret; the encoded form of a shorter one stands in texts by chance
_PART = 10  # letters
_WRAP = r"(?:\\{1,15}[rn]|[\r\n])*+"  # between the lines of wrapped base64
_LETTERS = {"+": r"(?:[+-]|\\{1,15}u002[bB])", "/": r"(?:\\{0,15}/|_)"}
_RUN = re.compile(r"(?:[A-Za-z0-9+_-]++|\\{0,15}/|(?:\\{1,15}[rn]|[\r\n])++(?=[A-Za-z0-9+/_-]{4}))++={0,2}+")
_LAST = re.compile(r"[A-Za-z0-9]?={0,2}")
_HEX_RUN = re.compile(r"[0-9a-f]{24,}+")
_SHORTEST_RUN = 16
_LONGEST_RUN = 8192
_BASIC = re.compile(r"basic(?:[\s+:=]|\\{1,15}[nrt]|%20)++([a-z0-9+/_-]{6,}+={0,2}+)")
_TO_STANDARD = str.maketrans("-_", "+/")
# Characters by how common they are in JSON and English, the rarest first; what is not here is rarer still.
_COMMON = "ZQXJKVYWGBHFMUPDLNRCSOTIAEzqxj987653v4kw2yb10g_fpmhul-dcrsnioate"


class EncodedForms(NamedTuple):
    """How a secret is written in hexadecimal digits and in base64. Of each form in base64, one part must be there."""

    in_hex: str
    in_base64: tuple[Base64Form, ...]


class Base64Form(NamedTuple):
    """One of the forms in base64. The end of a line may stand within `first`, but never within both parts."""

    first: str
    second: str
    pattern: re.Pattern[str]

    def find(self, text: str) -> Iterator[Span]:
        """Where the form is, with the letters beside it, which have a part of the secret's first and last character."""
        for match in self.pattern.finditer(text):
            start, end = match.span()
            yield start - text[start - 1 : start].isalnum(), _LAST.match(text, end).end()  # type: ignore[union-attr]  # matches nothing


def encoded_forms(secret: str) -> EncodedForms | None:
    """The encoded forms of a secret; None if it is too short to have any."""
    data = secret.encode("utf-8", "surrogatepass")
    return None if len(data) < SHORTEST else EncodedForms(data.hex(), tuple(map(_form, _cores(data))))


def find_encoded_tokens(text: str, lower: str, has_token: Callable[[str], object]) -> Iterator[Span]:
    """Where something is encoded that has a token in it: `has_token` looks at what it decodes to."""
    if _IN_BASE64.any_in(text):
        for match in _RUN.finditer(text):
            run = match[0]
            may_have = _SHORTEST_RUN <= len(run) <= _LONGEST_RUN and _IN_BASE64.any_in(run)
            if may_have and any(map(has_token, _decoded(run))):
                yield match.span()
    if _IN_HEX.any_in(lower):
        for match in _HEX_RUN.finditer(lower):
            if any(has_token(_from_hex(match[0][start:])) for start in (0, 1)):
                yield match.span()


class Marks:
    """Short texts, looked for together. One character is found much faster than a text, so a mark is looked for only
    where the rarest of its characters stands."""

    def __init__(self, marks: Iterable[str]) -> None:
        by_character: dict[str, list[str]] = {}
        for mark in marks:
            by_character.setdefault(min(mark, key=_COMMON.find, default=""), []).append(mark)
        self._groups = [(character, tuple(group)) for character, group in by_character.items()]

    def any_in(self, text: str) -> bool:
        """Whether one of them stands in `text`."""
        for character, marks in self._groups:
            if character in text:
                for mark in marks:
                    if mark in text:
                        return True
        return False


def find_basic(text: str, lower: str) -> Iterator[Span]:
    """Where a name and its password follow the word `Basic` (RFC 7617)."""
    for match in _BASIC.finditer(lower):
        if ":" in _from_base64(text[match.start(1) : match.end(1)]):
            yield match.span(1)


def _cores(data: bytes) -> Iterator[str]:
    """The letters of each form of `data` that do not depend on what stands before and after it."""
    for before in range(3):
        letters = b64encode(bytes(before) + data).decode()
        yield letters[(0, 2, 3)[before] : 8 * (before + len(data)) // 6]


def _form(core: str) -> Base64Form:
    parts = sorted(re.findall(r"[A-Za-z0-9]+", core), key=len) or [""]
    first = core[:_PART] if core[:_PART].isalnum() else parts[-1][:_PART]
    pattern = _WRAP.join(_LETTERS.get(letter, letter) for letter in core)
    return Base64Form(first, parts[-1][-_PART:], re.compile(pattern))


_PREFIXES = ("sk-", "sess-", "cp-")
TOKEN_MARKS = tuple(mark for prefix in _PREFIXES for mark in _cores(prefix.encode()))
TOKEN_MARKS_IN_HEX = tuple(prefix.encode().hex() for prefix in _PREFIXES)
_IN_BASE64, _IN_HEX = Marks(TOKEN_MARKS), Marks(TOKEN_MARKS_IN_HEX)


def _decoded(run: str) -> Iterator[str]:
    """What base64 may mean; its first letters may be of something else."""
    if not run.isalnum():
        run = re.sub(r"\\+[rn]?|[\r\n]", "", run).rstrip("=").translate(_TO_STANDARD)
    return (_from_letters(run[start:]) for start in range(4))


def _from_base64(letters: str) -> str:
    return _from_letters(letters.rstrip("=").translate(_TO_STANDARD))


def _from_letters(letters: str) -> str:
    """What letters of standard base64 mean, in Latin-1; those that are too many or too few are left out."""
    try:
        if len(letters) % 4 == 1:
            letters = letters[:-1]
        return binascii.a2b_base64(letters + "==").decode("latin-1")
    except ValueError:  # binascii.Error is one; the other: a letter beyond ASCII, which is plain in lower case
        return ""


def _from_hex(digits: str) -> str:
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("latin-1")
