"""Secrets as they may appear in bodies: tokens, settings, odd spellings, and texts around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

TOKENS = (
    "sk-Ab1" + "cD2_" * 11,
    "sk-proj-" + "xY9-" * 30,
    "sess-Zz0" + "aB3c" * 10,
    "cp-" + "Qw3_rT5-" * 5 + "yU7",
)
SECURITY_KEY = "the-security-key.42~"
ODD_SECRET = "pa\"ss/w\\rd%41&x=+'é\n☃😀 end"
EXTRA = (SECURITY_KEY, ODD_SECRET)


def as_unicode_escapes(text: str) -> str:
    return "".join(rf"\u{ord(character):04x}" for character in text)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def in_readable_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


WRITINGS: list[Callable[[str], str]] = [
    str,
    in_json,
    in_readable_json,
    lambda text: in_json(text).replace("/", r"\/"),
    lambda text: in_json(in_json(text)),
    lambda text: in_json(in_json(in_json(text))),
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: quote(in_readable_json(text), safe=""),
    lambda text: in_json(quote(text)),
]
PIECES = [
    *(
        '"',
        "'",
        "`",
        "\\",
        "\\\\",
        "\\n",
        "%",
        "%2",
        "%25",
        "%6",
        "\\u00",
        "\\u0",
        "u0073",
        "+",
        "=",
        ":",
        "&",
        ",",
        " ",
    ),
    *(
        "sk-",
        "sess-",
        "cp-",
        "cp",
        "Bearer ",
        "api_key",
        '"api_key":"',
        "security_key=",
        "authorization",
        "null",
        "[",
        "]",
    ),
    *("a", "Z9", "_", "-", "é", "İ", "\ud800", "\0", "{", "}", "redacted", "[redacted]", "the-", "Basic ", "A" * 70),
]
surroundings = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
