r"""Owns what counts as a secret in a text, and takes it out: `redact`.

A secret is a configured one (`extra`), the value of a name such as `security_key` or `api_key`, the word after
`Bearer`, the name and password after `Basic`, or a token with a known prefix (`sk-…`, `sess-…`, `cp-…`). Configured
secrets and tokens are also found in base64 and in hexadecimal digits (`usage.kept_bodies.encoded_secrets`).

Invariants: never raises; time is linear in any text, because each repetition in a pattern is possessive or bounded; a
text without secrets is returned as it is. All recognisers search the same text and their finds are united, so none can
spoil another's. A text with escapes in it (`usage.kept_bodies.escapes`) is searched once more with its escapes undone;
what is found there is taken out of the text as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from usage.kept_bodies.encoded_secrets import (
    TOKEN_MARKS,
    TOKEN_MARKS_IN_HEX,
    Base64Form,
    Marks,
    encoded_forms,
    find_basic,
    find_encoded_tokens,
)
from usage.kept_bodies.escapes import Span, Unescaped, has_escapes, unescape

REDACTED = "[redacted]"
SHORTEST_EXTRA = 4  # anything shorter stands in half of all words
UNESCAPE_DEPTH = 3  # an URL in an URL in an URL

Finder = Callable[[str, "_Exact"], list[Span]]

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
# Of these marks one is in every text, as it is or in lower case, in which anything but an exact secret can be found.
_MARKS = Marks([*(prefix for prefix, _ in _TOKENS), *TOKEN_MARKS])
_MARKS_IN_LOWER = Marks(["key", "authorization", "access", "bearer", "basic", *TOKEN_MARKS_IN_HEX])


def redact(text: str, extra: Sequence[str] = ()) -> str:
    """`text` with `[redacted]` in the place of each secret; `extra` are exact secrets, such as the configured ones."""
    return _redact(text, extra, _find)


def redact_exact(text: str, extra: Sequence[str]) -> str:
    """`text` with `[redacted]` in the place of the exact secrets `extra`, however they are written, and of no other."""
    return _redact(text, extra, _find_exact)


def redact_answer(body: bytes, extra: Sequence[str]) -> bytes:
    """Bytes of an answer as their reader may see them: as `redact_exact`, and every other byte as it was."""
    text = body.decode("utf-8", "surrogateescape")
    redacted = redact_exact(text, extra)
    if redacted != text:
        body = redacted.encode("utf-8", "surrogateescape")
    if b"\0" in body:
        for secret in extra:
            for encoding in ("utf-16-le", "utf-16-be"):
                body = body.replace(secret.encode(encoding), REDACTED.encode(encoding))
    return body


def redact_each(texts: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Each of these texts, as `redact` returns it: one look at all of them is enough when none has a secret."""
    joined = " ".join(texts)
    return list(texts) if redact(joined, extra) == joined else [redact(text, extra) for text in texts]


def is_secret_name(name: str) -> bool:
    """Whether a field of this name has a secret for its value."""
    return _NAME.search(unescape(name, UNESCAPE_DEPTH).lower()) is not None


def _redact(text: str, extra: Sequence[str], find: Finder) -> str:
    if not text:
        return text
    exact = _exact(tuple(extra))
    spans = find(text, exact)
    view = text
    views: list[Unescaped] = []
    while len(views) < UNESCAPE_DEPTH and has_escapes(view):
        views.append(Unescaped(view))
        if views[-1].text == view:
            break
        view = views[-1].text
        for span in find(view, exact):
            for unescaped in reversed(views):
                span = unescaped.origin(span)
            spans.append(span)
    return _replace(text, spans) if spans else text


def _find(text: str, exact: _Exact) -> list[Span]:
    lower = _lower(text)
    spans = exact.find(text, lower)
    if not _MARKS.any_in(text) and not _MARKS_IN_LOWER.any_in(lower):
        return spans
    for prefix, token in _TOKENS:
        if prefix in text:
            spans += [match.span() for match in token.finditer(text)]
    # Each of these words is in every text that the pattern matches, and much faster to look for.
    if "key" in lower or "authorization" in lower or ("access" in lower and "token" in lower):
        spans += [match.span(match.lastindex or 0) for match in _NAMED.finditer(lower)]
    if "bearer" in lower:
        words = [match.span(1) for match in _BEARER.finditer(lower)]
        spans += [(start, end) for start, end in words if _is_token(text[start:end])]
    if "basic" in lower:
        spans += find_basic(text, lower)
    spans += find_encoded_tokens(text, lower, _has_token)
    return spans


def _find_exact(text: str, exact: _Exact) -> list[Span]:
    return exact.find(text, _lower(text))


def _lower(text: str) -> str:
    """In lower case, every character in its place."""
    return text.lower() if text.isascii() else text.replace("\u0130", "i").lower()


def _has_token(text: str) -> bool:
    return any(prefix in text and token.search(text) is not None for prefix, token in _TOKENS)


class _Exact:
    """Exact secrets, made ready to be looked for: each way to write one has a short text that must be there."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        self._in_hex: list[str] = []
        self._in_base64: list[Base64Form] = []
        for secret in secrets:
            self._patterns.append((_literal(secret), re.compile("".join(map(_spellings, secret)))))
            forms = encoded_forms(secret)
            if forms is not None:
                self._in_hex.append(forms.in_hex)
                self._in_base64 += forms.in_base64
        literals = [literal for literal, _ in self._patterns]
        self._marks = Marks([*literals, *(form.first for form in self._in_base64)])
        self._marks_in_lower = Marks(self._in_hex)
        self._marks_in_lines = Marks(form.second for form in self._in_base64)

    def find(self, text: str, lower: str) -> list[Span]:
        """Where they stand in `text`, which is `lower` in lower case."""
        has_lines = "\n" in text or "\\n" in text or "\\r" in text  # one may end within the first part of base64
        may_have = self._marks.any_in(text) or self._marks_in_lower.any_in(lower)
        if not may_have and not (has_lines and self._marks_in_lines.any_in(text)):
            return []
        patterns = [pattern for literal, pattern in self._patterns if literal in text]
        spans = [match.span() for pattern in patterns for match in pattern.finditer(text)]
        for form in self._in_base64:
            if form.first in text or (has_lines and form.second in text):
                spans += form.find(text)
        for digits in self._in_hex:
            if digits in lower:
                spans += [match.span() for match in re.finditer(digits, lower)]
        return spans


@lru_cache(maxsize=64)
def _exact(secrets: tuple[str, ...]) -> _Exact:
    return _Exact({secret for secret in secrets if len(secret) >= SHORTEST_EXTRA})


def _literal(secret: str) -> str:
    """The longest part of it that every spelling shares, after unescaping."""
    return max(re.findall(r"[A-Za-z0-9_.~-]+", secret), key=len, default="")


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
