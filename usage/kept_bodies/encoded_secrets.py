"""Searches for secrets in base64 or hexadecimal digits: for given secrets, and for tokens known by their prefix.

Base64 encodes three bytes as four letters, so a secret has three forms, depending on the number of bytes before it.
Short parts of each form are searched for first, which costs next to nothing if the text has none of them.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from usage.kept_bodies.escapes import TextRange

MIN_SECRET_BYTES = 8  # texts may contain the encoded form of a shorter secret by chance
_PART_LETTERS = 10  # letters in each of the two parts of a form that are searched for first
_WRAP = r"(?:\\{1,15}[rn]|[\r\n])*+"  # between the lines of wrapped base64
_LETTERS = {"+": r"(?:[+-]|\\{1,15}u002[bB])", "/": r"(?:\\{0,15}/|_)"}
# Neither a run nor a secret begins inside of an escaped line end, or with one: in a text full of them, a search would
# read on to the last one from each of them.
_RUN = re.compile(
    r"(?:(?!(?<=\\)[rn])[A-Za-z0-9+_-]++|\\{0,15}/)"
    r"(?:[A-Za-z0-9+_-]++|\\{0,15}/|(?:\\{1,15}[rn]|[\r\n])++(?=[A-Za-z0-9+/_-]{4}))*+={0,2}+"
)
_LAST = re.compile(r"[A-Za-z0-9]?={0,2}")
_HEX_RUN = re.compile(r"[0-9a-f]{24,}+")
_MIN_RUN = 16
_MAX_RUN = 8192
_BASIC = re.compile(r"basic(?:[\s+:=]|\\{1,15}[nrt]|%20)++([a-z0-9+/_-]{6,}+={0,2}+)")
_TO_STANDARD = str.maketrans("-_", "+/")
# Characters by how common they are in JSON and English, the rarest first; characters that are not here are rarer still.
_COMMON = "ZQXJKVYWGBHFMUPDLNRCSOTIAEzqxj987653v4kw2yb10g_fpmhul-dcrsnioate"


class EncodedForms(NamedTuple):
    """The forms in which one secret may stand in a text: in hexadecimal digits, and in three ways in base64."""

    in_hex: str
    in_base64: tuple[Base64Form, ...]


class Base64Form(NamedTuple):
    """One of the three ways in which a secret can be written in base64, depending on the number of bytes before it.

    * `letters`: the base64 letters of the secret.
    * `first` and `second`: two short parts of `letters`. A text with the secret contains at least one of them, so they
      are searched for first, which is fast. They are two because a line end may be inside one of them.
    """

    letters: str
    first: str
    second: str

    def find(self, text: str) -> Iterator[TextRange]:
        """Yields the start and end of each place in `text` where the secret is written in this base64 form."""
        for match in _pattern(self.letters).finditer(text):
            # One letter more on each side: these have bits of the secret's first and last byte.
            start, end = match.span()
            yield start - text[start - 1 : start].isalnum(), _LAST.match(text, end).end()  # type: ignore[union-attr]  # `_LAST` always matches


def encoded_forms(secret: str) -> EncodedForms | None:
    """Returns the texts by which a secret is found in base64 and in hexadecimal digits; None for a short secret."""
    # Texts would contain the forms of a short secret by chance.
    data = secret.encode("utf-8", "surrogatepass")
    return None if len(data) < MIN_SECRET_BYTES else EncodedForms(data.hex(), tuple(map(_form, _inner_letters(data))))


def find_encoded_tokens(text: str, lower: str, has_token: Callable[[str], object]) -> Iterator[TextRange]:
    """Yields the range of each run of base64 or hexadecimal digits in `text` that decodes to a secret token.

    `has_token` tells whether a decoded text has such a token. `lower` is `text` in lower case.
    """
    if _IN_BASE64.any_in(text):
        for match in _RUN.finditer(text):
            run = match[0]
            may_have = _MIN_RUN <= len(run) <= _MAX_RUN and _IN_BASE64.any_in(run)
            if may_have and any(map(has_token, _decodings(run))):
                yield match.span()
    if _IN_HEX.any_in(lower):
        for match in _HEX_RUN.finditer(lower):
            if any(has_token(_from_hex(match[0][start:])) for start in (0, 1)):
                yield match.span()


class LiteralSet:
    """A set of short texts, made to find out quickly whether another text contains any of them.

    It is fast because a text of the set is searched for only if the other text has the rarest character of it. A text
    that contains another text of the set is dropped, since the shorter one is found in any case.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        by_character: dict[str, list[str]] = {}
        shortest: list[str] = []
        for literal in sorted(literals, key=len):
            if not any(other in literal for other in shortest):
                shortest.append(literal)
        for literal in shortest:
            by_character.setdefault(min(literal, key=_COMMON.find, default=""), []).append(literal)
        self._groups = [(character, tuple(group)) for character, group in by_character.items()]

    def any_in(self, text: str) -> bool:
        """Returns whether `text` contains at least one of the texts in this set."""
        for character, literals in self._groups:
            if character in text:
                for literal in literals:
                    if literal in text:
                        return True
        return False


def find_basic(text: str, lower: str) -> Iterator[TextRange]:
    """Yields the ranges of `text` that encode a user name and password in base64, after the word `Basic` (RFC 7617).

    `lower` is `text` in lower case.
    """
    for match in _BASIC.finditer(lower):
        if ":" in _from_base64(text[match.start(1) : match.end(1)]):
            yield match.span(1)


def _inner_letters(data: bytes) -> Iterator[str]:
    """Yields the three texts of which one is in the base64 of any longer data that contain `data`.

    Which of them it is depends on the number of bytes before `data`. Letters that also depend on bytes beside `data`
    are left out.
    """
    # Base64 encodes groups of three bytes, and `data` may begin at each of the three. Letters that also depend on a
    # byte beside `data` are left out.
    for before in range(3):
        letters = b64encode(bytes(before) + data).decode()
        yield letters[(0, 2, 3)[before] : 8 * (before + len(data)) // 6]


def _form(letters: str) -> Base64Form:
    """Makes the `Base64Form` of a secret from its base64 `letters`, and chooses the two short parts to search for."""
    parts = sorted(re.findall(r"[A-Za-z0-9]+", letters), key=len) or [""]
    first = letters[:_PART_LETTERS] if letters[:_PART_LETTERS].isalnum() else parts[-1][:_PART_LETTERS]
    return Base64Form(letters, first, parts[-1][-_PART_LETTERS:])


# Compiled once a text seems to have the form, which is nearly never: it takes a millisecond, for each of three forms.
@lru_cache(maxsize=64)
def _pattern(letters: str) -> re.Pattern[str]:
    """Returns a regular expression that finds base64 `letters`, even with line ends in between or as base64url."""
    pattern = _WRAP.join(_LETTERS.get(letter, letter) for letter in letters)
    return re.compile(rf"(?<!\\){pattern}" if letters.startswith(("r", "n")) else pattern)  # see `_RUN`


_PREFIXES = ("sk-", "sess-", "cp-", "cpt-")
TOKEN_MARKS = tuple(mark for prefix in _PREFIXES for mark in _inner_letters(prefix.encode()))
TOKEN_MARKS_IN_HEX = tuple(prefix.encode().hex() for prefix in _PREFIXES)
_IN_BASE64, _IN_HEX = LiteralSet(TOKEN_MARKS), LiteralSet(TOKEN_MARKS_IN_HEX)


def _decodings(run: str) -> Iterator[str]:
    """Yields four decodings of a run of base64 letters: from its first, second, third and fourth letter on.

    Up to three letters in front may belong to something else, so it is not known where the base64 begins.
    """
    if not run.isalnum():
        run = re.sub(r"\\+[rn]?|[\r\n]", "", run).rstrip("=").translate(_TO_STANDARD)
    # Up to three letters at the start may belong to something else, so nobody knows where the base64 begins.
    return (_from_letters(run[start:]) for start in range(4))


def _from_base64(letters: str) -> str:
    """Decodes base64, also in the form for URLs, to a text with one character per byte (Latin-1).

    Padding may be missing. The result is an empty text for invalid base64.
    """
    return _from_letters(letters.rstrip("=").translate(_TO_STANDARD))


def _from_letters(letters: str) -> str:
    """Decodes standard base64 without padding to a text with one character per byte (Latin-1).

    The text is empty for invalid base64.
    """
    try:
        if len(letters) % 4 == 1:
            # A single letter in the last group stands for no whole byte.
            letters = letters[:-1]
        return binascii.a2b_base64(letters + "==").decode("latin-1")
    except ValueError:  # binascii.Error, or a character beyond ASCII whose lower case is an ASCII letter
        return ""


def _from_hex(digits: str) -> str:
    """Decodes hexadecimal digits to a text with one character per byte (Latin-1); ignores an odd last digit."""
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("latin-1")
