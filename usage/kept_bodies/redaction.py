r"""Decides what counts as a secret in a text, and replaces it by `[redacted]`: `redact`.

A secret is a configured one (`secrets`), the value of a name such as `security_key` or `api_key`, the word after
`Bearer`, the name and password after `Basic`, the password in a URL (`https://user:password@host`), or a token with a
known prefix (`sk-…`, `sess-…`, `cp-…`, `cpt-…`, `ek_…`). Where a request hands secrets on by other names, all members
`value` count (`_VALUE_MARKS`). Configured secrets and tokens are also found in base64 and in hexadecimal digits
(`usage.kept_bodies.encoded_secrets`).

Invariants: it never raises an error; a text without secrets is returned unchanged; its time is linear in the text,
because each repetition in a pattern is possessive or bounded, and a search that fails does not begin again inside of
what it has read. All searches look at the same original text, and their finds are combined, so that none can spoil
another's. A text with escapes in it (`usage.kept_bodies.escapes`) is searched again with its escapes undone, and
secrets found there are removed from the original text.

Over 300 lines, since each form of a secret has a pattern, and all are combined into one search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from usage.kept_bodies.encoded_secrets import (
    TOKEN_MARKS,
    TOKEN_MARKS_IN_HEX,
    Base64Form,
    LiteralSet,
    encoded_forms,
    find_basic,
    find_encoded_tokens,
)
from usage.kept_bodies.escapes import TextRange, Unescaped, has_escapes, unescape

REDACTED = "[redacted]"
MIN_SECRET_CHARACTERS = 4  # a shorter secret would be found in very many words
MAX_JOINED_CHARACTERS = 8192  # of several texts together, which are first searched as one
UNESCAPE_DEPTH = 3  # enough for a URL in a URL in a URL

Recogniser = Callable[[str, "_ExactSecrets"], list[TextRange]]

_NAMES = (
    r"(?:security[_-]?key|api[_-]?key|(?:access|refresh)[_-]?token|authorization"
    r"|(?:client|signing|webhook)[_-]?secret|secret[_-]?value)"
)
_SPACE = r"(?:\s|\\{1,15}[nrt])*+"
_NOTHING = r"(?!(?:null|none|true|false|undefined|str|string)(?:[\s,;&|)\]}]|\\|\"|\Z))"
_SCHEME = r"(?:(?:bearer|basic|digest|negotiate|token)(?:[\s+]|\\{1,15}[nrt])++)?"
# What follows a secret's name, in a text in lower case. The last group that matches is the secret.
_ASSIGNED = (
    r"(?:\\{0,15}[\"'`])?+(?:\[[^\]\s]{0,20}\])?+\]?+"  # the name's closing quote; `api_key[0]`; `environ["API_KEY"]`
    + _SPACE
    + r"(?:(?:=>|:=|={1,3}|:)"
    + _SPACE
    + r"\[?+"
    + _SPACE
    # "…": ends at a quote with at most as many backslashes as its first quote has, so JSON in JSON ends in time.
    + r"(?:(\\{0,15})\"((?:[^\"\\]++|\\++(?!\")|\1\\++\")++)"
    + r"|\\{0,15}'((?:[^'\\]++|\\++(?!')|\\++')++)"
    + r"|\\{0,15}`([^`]++))"
    + rf"|={{1,3}}{_SPACE}{_NOTHING}({_SCHEME}(?:[^\s&\"<>\\]++|\\{{1,15}}/)++)"  # in a URL's query: up to the next `&`
    + rf"|:=?{_SPACE}{_NOTHING}(?![\[{{(])({_SCHEME}(?:[^\s&\"<>\\,}}\]]++|\\{{1,15}}/)++))"  # in a header or in YAML
)
_NAMED = re.compile(_NAMES + _ASSIGNED)
_NAME = re.compile(_NAMES)
# In a text with one of these words, such as a request with the secrets of a container, members `value` are secrets.
_VALUE_MARKS = ("domain_secrets", "browser_authentication")
_VALUE = re.compile(r"(?<![a-z0-9])value" + _ASSIGNED)
# RFC 3986, 3.2.1. Bounded, so that a text full of `://` is read in time.
_IN_URL = re.compile(r":\\{0,15}/\\{0,15}/[^\s/?#@:\"'<>\\]{0,256}+:([^\s/?#\"'<>\\]{1,256})@")
_URL_MARKS = ("://", ":\\")  # in JSON, slashes may have backslashes

_BEARER = re.compile(r"bearer(?:[\s+:=]|\\{1,15}[nrt])++([a-z0-9._~+/=-]{6,}+)")
_MAX_WORD = 20

# What may stand before a token: no letter or digit, unless it is the end of an escape.
_BEFORE = (r"(?<![A-Za-z0-9]{})", r"(?<=\\[nrtbf]{})", r"(?<=\\u[0-9a-fA-F]{{4}}{})", r"(?<=%[0-9a-fA-F]{{2}}{})")
_LOOKS_RANDOM = r"(?=[A-Za-z_-]{0,64}+[0-9])(?=[a-z0-9_-]{0,64}+[A-Z])"


def _token(prefix: str, length: int) -> tuple[str, re.Pattern[str]]:
    """Returns `prefix` and a pattern that finds secret tokens with this prefix, such as `sk-`, in texts.

    At least `length` letters, digits, `-` or `_` must follow the prefix. Inside a longer word, such as `disk-`, at
    least 20 must follow, with a digit and a capital letter among them.
    """
    apart = "|".join(before.format(prefix) for before in _BEFORE)
    # Inside a longer word the prefix may stand by chance, as in `disk-`: at least 20 characters must follow there, a
    # digit and a capital letter among them.
    inside = rf"{_LOOKS_RANDOM}[A-Za-z0-9_-]{{{max(length, 20)}}}"
    return prefix, re.compile(rf"{prefix}(?:(?:{apart})[A-Za-z0-9_-]{{{length},}}+|{inside}[A-Za-z0-9_-]*+)")


_TOKENS = (_token("sk-", 16), _token("sess-", 16), _token("cp-", 43), _token("cpt-", 43), _token("ek_", 24))
# A text without any of these literals can have no secret but an exact one, so only exact secrets are searched for.
_LITERALS = (*(prefix for prefix, _ in _TOKENS), *TOKEN_MARKS, *_URL_MARKS)
_LOWER_LITERALS = (
    *("key", "authorization", "access", "refresh", "secret", "bearer", "basic"), *_VALUE_MARKS, *TOKEN_MARKS_IN_HEX
)  # fmt: skip


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Replaces secrets in `text` by `[redacted]`: the given `secrets`, and all that are recognised by their form.

    Recognised are, for example, tokens that begin with `sk-`, and values of fields named `api_key`.
    """
    return _redact(text, secrets, _find)


def redact_exact(text: str, secrets: Sequence[str]) -> str:
    """Replaces the given `secrets` in `text` by `[redacted]`, even if they are written in base64 or with escapes.

    Secrets of less than `MIN_SECRET_CHARACTERS` are not searched for.
    """
    return _redact(text, secrets, _find_exact)


def has_secret(secrets: Sequence[str], text: str) -> bool:
    for secret in secrets:  # noqa: SIM110  (takes half the time of `any`, and every call does this)
        if secret in text:
            return True
    return False


def redact_answer(body: bytes, secrets: Sequence[str]) -> bytes:
    """Replaces the given `secrets`, in UTF-8 or UTF-16, by `[redacted]` in the bytes of an answer."""
    text = body.decode("utf-8", "surrogateescape")
    redacted = redact_exact(text, secrets)
    if redacted != text:
        body = redacted.encode("utf-8", "surrogateescape")
    if b"\0" in body:
        for secret in secrets:
            for encoding in ("utf-16-le", "utf-16-be"):
                body = body.replace(secret.encode(encoding), REDACTED.encode(encoding))
    return body


def redact_each(texts: Sequence[str], secrets: Sequence[str]) -> list[str]:
    """Redacts secrets in each of `texts` as `redact` does, but in less time; returns the redacted texts."""
    # Nearly always no text has a secret. Long texts are not joined: searching them twice would cost more.
    if sum(map(len, texts)) <= MAX_JOINED_CHARACTERS:
        joined = " ".join(texts)
        if redact(joined, secrets) == joined:
            return list(texts)
    return [redact(text, secrets) for text in texts]


def is_secret_name(name: str) -> bool:
    """Returns whether a field with this name, such as `api_key`, holds a secret; undoes escapes (`api%5fkey`) first."""
    return _NAME.search(unescape(name, UNESCAPE_DEPTH).lower()) is not None


def _redact(text: str, secrets: Sequence[str], find: Recogniser) -> str:
    """Replaces by `[redacted]` what the function `find` finds in `text`, even if it is written with escapes (`%41`).

    Escapes are undone up to `UNESCAPE_DEPTH` times, and the text is searched again each time.
    """
    if not text:
        return text
    exact = _exact_secrets(tuple(secrets))
    ranges = find(text, exact)
    view = text
    views: list[Unescaped] = []
    while len(views) < UNESCAPE_DEPTH and has_escapes(view):
        views.append(Unescaped(view))
        if views[-1].text == view:
            break
        view = views[-1].text
        for found in find(view, exact):
            for unescaped in reversed(views):
                found = unescaped.escaped_range(found)
            ranges.append(found)
    return _replace(text, ranges) if ranges else text


def _find(text: str, exact: _ExactSecrets) -> list[TextRange]:
    """Returns the start and end of each secret in `text`: given ones, and those of a known form. Ranges may overlap."""
    lower = _lower(text)
    if not exact.may_have_secrets(text, lower):
        return []
    ranges = exact.find(text, lower)
    for prefix, token in _TOKENS:
        if prefix in text:
            ranges += [match.span() for match in token.finditer(text)]
    # Every text that the pattern matches has one of these words, which are found much faster than the pattern.
    has_token = "token" in lower and ("access" in lower or "refresh" in lower)
    if "key" in lower or "authorization" in lower or "secret" in lower or has_token:
        ranges += [match.span(match.lastindex or 0) for match in _NAMED.finditer(lower)]
    if "bearer" in lower:
        words = [match.span(1) for match in _BEARER.finditer(lower)]
        ranges += [(start, end) for start, end in words if _is_token(text[start:end])]
    if any(mark in lower for mark in _VALUE_MARKS):
        ranges += [match.span(match.lastindex or 0) for match in _VALUE.finditer(lower)]
    if "@" in text and any(mark in text for mark in _URL_MARKS):
        ranges += [match.span(1) for match in _IN_URL.finditer(text)]
    if "basic" in lower:
        ranges += find_basic(text, lower)
    ranges += find_encoded_tokens(text, lower, _has_token)
    return ranges


def _find_exact(text: str, exact: _ExactSecrets) -> list[TextRange]:
    """Returns the start and end of each given secret in `text`; looks for no other secrets."""
    return exact.find(text, _lower(text))


def _lower(text: str) -> str:
    """Returns `text` in lower case and in the same length, so that positions fit both texts."""
    return text.lower() if text.isascii() else text.replace("\u0130", "i").lower()


def _has_token(text: str) -> bool:
    """Returns whether `text` contains a token with a known prefix, such as `sk-`."""
    return any(prefix in text and token.search(text) is not None for prefix, token in _TOKENS)


class _ExactSecrets:
    """Finder of given secrets in texts, even if they are written in base64 or with escapes.

    It first searches for a short part of each secret. That search is fast, and finds nothing in nearly all texts.
    """

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
        self._literals = LiteralSet([*literals, *(form.first for form in self._in_base64)])
        self._hex_literals = LiteralSet(self._in_hex)
        self._second_literals = LiteralSet(form.second for form in self._in_base64)
        # Literals of all secrets, exact or known by their form: two searches show that a text, as nearly all, has none.
        self._all_literals = LiteralSet([*literals, *(form.first for form in self._in_base64), *_LITERALS])
        self._all_lower_literals = LiteralSet([*self._in_hex, *_LOWER_LITERALS])

    def may_have_secrets(self, text: str, lower: str) -> bool:
        """Returns whether `text` may have a secret, given or of a known form, by a rough search; False is certain.

        `lower` is `text` in lower case.
        """
        if self._all_literals.any_in(text) or self._all_lower_literals.any_in(lower):
            return True
        return _has_line_end(text) and self._second_literals.any_in(text)

    def find(self, text: str, lower: str) -> list[TextRange]:
        """Returns the start and end of each given secret in `text`; `lower` is `text` in lower case."""
        has_lines = _has_line_end(text)
        may_have = self._literals.any_in(text) or self._hex_literals.any_in(lower)
        if not may_have and not (has_lines and self._second_literals.any_in(text)):
            return []
        patterns = [pattern for literal, pattern in self._patterns if literal in text]
        ranges = [match.span() for pattern in patterns for match in pattern.finditer(text)]
        for form in self._in_base64:
            if form.first in text or (has_lines and form.second in text):
                ranges += form.find(text)
        for digits in self._in_hex:
            if digits in lower:
                ranges += [match.span() for match in re.finditer(digits, lower)]
        return ranges


def _has_line_end(text: str) -> bool:
    """Returns whether `text` has a line break, plain or escaped as in JSON; base64 may be split at line breaks."""
    return "\n" in text or ("\\" in text and ("\\n" in text or "\\r" in text))  # a character is found much faster


@lru_cache(maxsize=64)
def _exact_secrets(secrets: tuple[str, ...]) -> _ExactSecrets:
    """Returns the object that finds the given secrets in texts, from a cache; very short secrets are left out."""
    return _ExactSecrets({secret for secret in secrets if len(secret) >= MIN_SECRET_CHARACTERS})


def _literal(secret: str) -> str:
    """Returns the longest part of `secret` that JSON and URLs write without escapes; an empty text if there is none."""
    # JSON and URLs need not escape these, and needless escapes are undone before the search.
    return max(re.findall(r"[A-Za-z0-9_.~-]+", secret), key=len, default="")


def _spellings(character: str) -> str:
    """Returns a regular expression for a character of a secret, be it plain, escaped as in JSON or percent-encoded."""
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
    """Returns whether the word after `Bearer` is a token, and not an English word as in "bearer authentication"."""
    return len(word) > _MAX_WORD or any(map(str.isdigit, word)) or any(map(str.isupper, word[1:]))


def _replace(text: str, ranges: list[TextRange]) -> str:
    """Replaces the given ranges of `text` by `[redacted]`. The ranges may overlap, and come in any order."""
    pieces: list[str] = []
    done, hidden = 0, -1
    for start, end in sorted(ranges):
        if start > hidden:
            if hidden >= 0:
                pieces.append(REDACTED)
                done = hidden
            pieces.append(text[done:start])
        hidden = max(hidden, end)
    pieces += (REDACTED, text[hidden:])
    return "".join(pieces)
