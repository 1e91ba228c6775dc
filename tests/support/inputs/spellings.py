"""The ways in which a secret can be written, for tests that hide a secret in a text: `SPELLINGS`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def unicode_escapes(text: str) -> str:
    return "".join(rf"\u{ord(character):04x}" for character in text)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": percent,
    "percent twice": lambda text: quote(percent(text), safe=""),
    "percent three times": lambda text: quote(quote(percent(text), safe=""), safe=""),
    "unicode escapes": unicode_escapes,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text}))[1:-1],
    "unicode escapes in JSON": lambda text: json.dumps(unicode_escapes(text))[1:-1],
    "hexadecimal escapes": lambda text: "".join(rf"\x{ord(character):02x}" for character in text),
    "base64": in_base64,
    "base64 of more": lambda text: in_base64(f'{{"a": "{text}", "b": "{text}"}}'),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"ab{text}".encode()).decode().rstrip("="),
    "base64 in lines": lambda text: base64.encodebytes(b"x" * 40 + text.encode() * 3).decode(),
    "base64 in lines, in JSON": lambda text: json.dumps(base64.encodebytes(text.encode() * 3).decode())[1:-1],
    "base64, percent": lambda text: quote(in_base64(f"x{text}"), safe=""),
    "Basic": lambda text: f"Basic {in_base64(f'user:{text}')}",
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "HTML, decimal": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(character):X};" for character in text),
    "HTML, the odd ones": lambda text: text.replace("-", "&#45;").replace("_", "&lowbar;"),
    "HTML, twice": lambda text: "".join(f"&amp;#{ord(character)};" for character in text),
}


def is_gone(written: str, text: str) -> bool:
    """Returns whether a secret is gone from `text`: it has neither `written` nor the secret's middle 16 characters."""
    middle = len(written) // 2
    return written not in text and written[middle - 8 : middle + 8] not in text
