r"""Decodes escapes in texts: `%41`, `\u0041`, `\x41`, `&#65;`, `&amp;`. `Unescaped` undoes one level.

Its time is linear, and short: the standard library splits the text at its escapes and joins it again. Positions in the
escaped text are computed only when they are needed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from html.entities import html5
from itertools import accumulate

TextRange = tuple[int, int]  # start and end in a text

# Escapes of printable ASCII characters only, because the names of secrets and tokens have no others.
_ESCAPE = re.compile(
    r"(%[2-7][0-9A-Fa-f]|\\{1,15}(?:u00|x)[2-7][0-9A-Fa-f]"
    r"|&(?:#(?:0{0,8}[1-9][0-9]{1,2}|[xX]0{0,8}[2-7][0-9A-Fa-f]);?|[A-Za-z]{2,9};))"
)
_URL_ESCAPE = re.compile("%[2-7][0-9A-Fa-f]")
_MAX_MEANINGS = 10_000


class _Meanings(dict[str, str]):
    """Cache that maps each escape, such as `%41`, to the character that it stands for, such as `A`.

    An escape for a character that is not printable ASCII is mapped to itself.
    """

    def __missing__(self, escape: str) -> str:
        meaning = _meaning(escape)
        if len(self) < _MAX_MEANINGS:
            self[escape] = meaning
        return meaning


_MEANINGS = _Meanings()


def has_escapes(text: str) -> bool:
    """Returns whether `text` may have escapes such as `%41`, by a rough and fast check."""
    return (
        ("\\" in text and ("\\u00" in text or "\\x" in text))  # a character is found much faster than two
        or ("%" in text and _URL_ESCAPE.search(text) is not None)
        or ("&" in text and (";" in text or "&#" in text))
    )


class Unescaped:
    """A text in which one level of escapes has been undone: `%41`, for example, has become "A".

    It also knows where each of its pieces was in the escaped text.
    """

    def __init__(self, escaped: str) -> None:
        self._escaped = _ESCAPE.split(escaped)  # the texts between escapes and, at each odd index, an escape
        self._pieces = self._escaped.copy()
        self._pieces[1::2] = map(_MEANINGS.__getitem__, self._escaped[1::2])
        self.text = "".join(self._pieces)
        self._ends: list[int] = []  # the ends of the pieces in `text`, after a 0
        self._origins: list[int] = []  # the same ends in the escaped text, after a 0

    def escaped_range(self, found: TextRange) -> TextRange:
        """Converts a range of positions in the unescaped text to the range of the same characters in the escaped text.

        The range must not be empty.
        """
        if not self._ends:
            self._ends = [0, *accumulate(map(len, self._pieces))]
            self._origins = [0, *accumulate(map(len, self._escaped))]
        start, end = found
        first = bisect_right(self._ends, start) - 1  # the piece that has the first character
        last = bisect_right(self._ends, end - 1) - 1
        inside = 0 if first % 2 else start - self._ends[first]
        origin_end = self._origins[last + 1] if last % 2 else self._origins[last] + end - self._ends[last]
        return self._origins[first] + inside, origin_end


def unescape(text: str, depth: int) -> str:
    """Undoes the escapes in a text: `%41` becomes `A`. Repeats this while escapes are left, at most `depth` times."""
    # Undoing escapes may produce new ones.
    while depth and has_escapes(text):
        text, depth = Unescaped(text).text, depth - 1
    return text


def _meaning(escape: str) -> str:
    r"""Returns the character for which an escape such as `%41` stands; the escape itself if it is not printable ASCII.

    An escaped quote or backslash keeps one backslash, so that it does not end a string: `\u0022` becomes `\"`.
    """
    if escape.startswith("&"):
        character = _entity(escape[1:].removesuffix(";"))
        return character if len(character) == 1 and character.isascii() and character.isprintable() else escape
    character = chr(int(escape[-2:], 16))
    if character == "\x7f":
        return escape
    if escape.startswith("\\") and character in "\"'`\\":
        return escape[: escape.rindex("\\") + 1] + character  # still escaped, so that it does not end its string
    return character


def _entity(name: str) -> str:
    """Returns the text of an HTML character reference: "&" for `amp`, "A" for `#65` and `#x41`.

    Returns an empty text for an unknown name.
    """
    if name.startswith(("#x", "#X")):
        return chr(int(name[2:], 16))
    return chr(int(name[1:])) if name.startswith("#") else html5.get(f"{name};", "")
