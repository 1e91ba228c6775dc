r"""Owns what counts as a secret in a text, and takes it out: `redact`.

A secret is a configured one (`extra`), the value of a name that says so (`security_key`, `api_key`, …), what
follows `Bearer`, or a token that its own form gives away (`sk-…`, `sess-…`, `cp-…`).

Invariants: never raises; time is linear in the text, whatever it says: each repetition is possessive or
bounded; a text without secrets comes back as it is. All recognisers look at the same text and their finds
are united, so none can spoil another's. Texts with `%41` or `\u0041` in them are looked at once more as
what these escapes mean; what is found there is taken out of the text as it came.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

REDACTED = "[redacted]"
SHORTEST_EXTRA = 4  # anything shorter stands in half of all words
UNESCAPE_DEPTH = 3  # an URL in an URL in an URL

Span = tuple[int, int]

# Lower case; each is in every text that the pattern after it matches, and is much faster to look for.
_NAME_MARKS = ("key", "token", "authorization")
_NAMES = r"(?:security[_-]?key|api[_-]?key|access[_-]?token|authorization)"
_SPACE = r"(?:\s|\\{1,15}[nrt])*+"
_NOTHING = r"(?!(?:null|none|true|false|undefined|str|string)(?:[\s,;&|)\]}]|\\|\"|\Z))"
_SCHEME = r"(?:(?:bearer|basic|digest|negotiate|token)(?:[\s+]|\\{1,15}[nrt])++)?"
# Looked for in the text in lower case. The last group that matches is the value.
_NAMED = re.compile(
    _NAMES
    + r"(?:\\{0,15}[\"'`])?+(?:\[[^\]\s]{0,20}\])?+\]?+"  # its closing quote; `api_key[0]`; `environ["API_KEY"]`
    + _SPACE
    + r"(?:(?:=>|:=|={1,3}|:)"
    + _SPACE
    + r"\[?+"
    + _SPACE
    # "…": it ends at a quote behind at most as many backslashes as it began with, so nested JSON ends at its own.
    + r"(?:(\\{0,15})\"((?:[^\"\\]++|\\++(?!\")|\1\\++\")++)"
    + r"|\\{0,15}'((?:[^'\\]++|\\++(?!')|\\++')++)"
    + r"|\\{0,15}`([^`]++))"
    + rf"|={{1,3}}{_SPACE}{_NOTHING}({_SCHEME}(?:[^\s&\"<>\\]++|\\{{1,15}}/)++)"  # a query's: to its `&`
    + rf"|:=?{_SPACE}{_NOTHING}(?![\[{{(])({_SCHEME}(?:[^\s&\"<>\\,}}\]]++|\\{{1,15}}/)++))"  # a header's, YAML's
)
_NAME = re.compile(_NAMES)

_BEARER = re.compile(r"bearer(?:[\s+:=]|\\{1,15}[nrt])++([a-z0-9._~+/=-]{6,}+)")
_LONGEST_WORD = 20

# What may stand before a token: no letter or digit, unless it is the end of an escape.
_BEFORE = (r"(?<![A-Za-z0-9]{})", r"(?<=\\[nrtbf]{})", r"(?<=\\u[0-9a-fA-F]{{4}}{})", r"(?<=%[0-9a-fA-F]{{2}}{})")
_LOOKS_RANDOM = r"(?=[A-Za-z_-]{0,64}+[0-9])(?=[a-z0-9_-]{0,64}+[A-Z])"


def _token(prefix: str, length: int) -> tuple[str, re.Pattern[str]]:
    """A token of `length` characters or more after its prefix; inside a word only if no word looks like it."""
    apart = "|".join(before.format(prefix) for before in _BEFORE)
    inside = rf"{_LOOKS_RANDOM}[A-Za-z0-9_-]{{{max(length, 20)}}}"
    return prefix, re.compile(rf"{prefix}(?:(?:{apart})[A-Za-z0-9_-]{{{length},}}+|{inside}[A-Za-z0-9_-]*+)")


_TOKENS = (_token("sk-", 16), _token("sess-", 16), _token("cp-", 43))

# Of printable ASCII characters only: nothing else is in a name or in a token.
_URL_ESCAPE = re.compile("%[2-7][0-9A-Fa-f]")
_ESCAPE = re.compile(r"%([2-6][0-9A-Fa-f]|7[0-9A-Ea-e])|(\\{1,15})u00([2-6][0-9A-Fa-f]|7[0-9A-Ea-e])")


def redact(text: str, extra: Sequence[str] = ()) -> str:
    """`text` with `[redacted]` in the place of each secret; `extra` are exact secrets, such as the configured ones."""
    if not text:
        return text
    spans = list(_find(text, extra))
    view, depth = text, 0
    views: list[_Unescaped] = []
    while depth < UNESCAPE_DEPTH and _has_escapes(view):
        views.append(_Unescaped(view))
        view, depth = views[-1].text, depth + 1
        for span in _find(view, extra):
            for unescaped in reversed(views):
                span = unescaped.origin(span)
            spans.append(span)
    return _replace(text, spans) if spans else text


def _has_escapes(text: str) -> bool:
    return "\\u00" in text or ("%" in text and _URL_ESCAPE.search(text) is not None)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name has a secret for its value."""
    for _ in range(UNESCAPE_DEPTH):
        name = _Unescaped(name).text
    return _NAME.search(name.lower()) is not None


def _find(text: str, extra: Sequence[str]) -> Iterator[Span]:
    for secret in extra:
        if len(secret) >= SHORTEST_EXTRA:
            yield from _find_extra(text, secret)
    for prefix, token in _TOKENS:
        if prefix in text:
            yield from (match.span() for match in token.finditer(text))
    # Every other character keeps its place in lower case.
    lower = text.lower() if text.isascii() else text.replace("\u0130", "i").lower()
    if any(mark in lower for mark in _NAME_MARKS):
        yield from (match.span(match.lastindex or 0) for match in _NAMED.finditer(lower))
    if "bearer" in lower:
        for match in _BEARER.finditer(lower):
            if _is_token(text[match.start(1) : match.end(1)]):
                yield match.span(1)


def _find_extra(text: str, secret: str) -> Iterator[Span]:
    literal, pattern = _compile_extra(secret)
    if literal in text:
        yield from (match.span() for match in pattern.finditer(text))


@lru_cache(maxsize=64)
def _compile_extra(secret: str) -> tuple[str, re.Pattern[str]]:
    """The longest part of it that every spelling shares (after unescaping), and all its spellings."""
    parts = re.findall(r"[A-Za-z0-9_.~-]+", secret)
    return max(parts, key=len, default=""), re.compile("".join(map(_spellings, secret)))


def _spellings(character: str) -> str:
    if re.match(r"[A-Za-z0-9_.~-]", character):
        return re.escape(character)
    if character == " ":
        return r"[ +]"
    if character == "\\":
        return r"\\{1,16}"
    if character.isprintable() and character.isascii():
        return r"\\{0,15}" + re.escape(character)
    units = character.encode("utf-16-be", "surrogatepass").hex()
    in_json = "".join(rf"\\{{1,15}}u{units[at : at + 4]}" for at in range(0, len(units), 4))
    short = {"\n": r"|\\{1,15}n", "\r": r"|\\{1,15}r", "\t": r"|\\{1,15}t"}.get(character, "")
    in_url = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    return f"(?:{re.escape(character)}|(?i:{in_json}|{in_url}){short})"


def _is_token(word: str) -> bool:
    """Not a word of a text about bearers: "bearer authentication"."""
    return len(word) > _LONGEST_WORD or any(map(str.isdigit, word)) or any(map(str.isupper, word[1:]))


class _Unescaped:
    r"""A text with one level of its `%41` and `\u0041` undone, and the way back."""

    def __init__(self, escaped: str) -> None:
        self._starts: list[int] = []  # where in `text` something undone starts …
        self._ends: list[int] = []
        self._origins: list[Span] = []  # … and what it was in the escaped text
        pieces: list[str] = []
        done = length = 0
        for match in _ESCAPE.finditer(escaped):
            in_url, backslashes, in_json = match.groups()
            character = chr(int(in_url or in_json, 16))
            if backslashes and character in "\"'`\\":
                character = backslashes + character  # it does not end the string it stands in
            kept = escaped[done : match.start()]
            pieces += (kept, character)
            length += len(kept)
            self._starts.append(length)
            length += len(character)
            self._ends.append(length)
            self._origins.append(match.span())
            done = match.end()
        self.text = "".join((*pieces, escaped[done:]))

    def origin(self, span: Span) -> Span:
        """The part of the escaped text that `span` of `text` comes from."""
        start, end = span
        before = bisect_right(self._starts, start) - 1  # the last undone that starts at `start` or before
        if before >= 0:
            inside = start < self._ends[before]
            start = self._origins[before][0] if inside else self._origins[before][1] + start - self._ends[before]
        after = bisect_left(self._ends, end)  # the first undone that ends at `end` or after
        if after < len(self._ends) and self._starts[after] < end:
            end = self._origins[after][1]
        elif after > 0:
            end = self._origins[after - 1][1] + end - self._ends[after - 1]
        return start, end


def _replace(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    done, hidden = 0, -1
    for start, end in sorted(spans):
        if start > hidden:
            if hidden >= 0:
                pieces.append(REDACTED)
                done = hidden
            pieces.append(text[done:start])
        hidden = max(hidden, end)
    pieces += (REDACTED, text[hidden:])
    return "".join(pieces)
