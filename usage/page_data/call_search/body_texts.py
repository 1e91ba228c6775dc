r"""Converts a stored body to readable text: without JSON's escapes, of which it may have none, one level or two.

A body is JSON as it was sent, lines of a form, or the text of a stream; arguments of tools are JSON inside of JSON. So
words are searched in all three forms of a body. It need not be parsed, which is impossible for a long prompt that was
cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# A colon is behind the name of a member. A text may end anywhere in a string, also behind a backslash: otherwise the
# search would begin again at each escaped quote of the string.
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"(\s*:)?|\\?\Z)', re.DOTALL)
_JSON = re.compile(
    r'\s*+(?:\{\s*+["}]|\[\s*+(?:\[\s*+)*+["{])'
)  # two marks at least: Markdown may begin with `[Docs](…)`
# Between two texts of a body: a character that is in no text, and no white space, since a phrase must not be found
# across two texts.
BETWEEN = "\ufdd0"
_SURROGATE = re.compile("[\ud800-\udfff]")


def readable_forms(body: str) -> Iterator[str]:
    """Yields the forms of a stored body in which a search looks for words, the most readable form first.

    The first form has one level of escapes undone, the second is the body as it is stored, and the third has two levels
    undone. A form that would be the same as an earlier one is left out.
    """
    once = unescaped(body)
    yield once
    if once != body:
        yield body
        if (twice := unescaped(once)) != once:
            yield twice


def texts_in(body: str) -> str:
    """Returns the texts in a stored JSON body, without escapes, names of members and brackets.

    Between two texts stands the character `BETWEEN`. The result is an empty text for a body that is no JSON.
    """
    if not _JSON.match(body):
        return ""
    return unescaped(BETWEEN.join(text for text, colon in _STRING.findall(body) if text and not colon))


def unescaped(text: str) -> str:
    r"""Undoes one level of JSON's escapes in a text, such as `\n`; a NUL and lone surrogates become U+FFFD.

    A backslash that begins no escape stays.
    """
    if "\\" not in text:
        return text
    found = _ESCAPE.sub(_meaning, text).replace("\0", "\ufffd")
    if _SURROGATE.search(found):  # two of them are one character
        return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return found


def _meaning(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _SHORT.get(escape[2], escape[2])
