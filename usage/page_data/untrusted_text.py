"""Owns the making harmless of strangers' text, for pages and for spreadsheets.

HTML is escaped by the templates; here go what escaping leaves alone: control characters, marks that turn the direction
of the text around them, and what a spreadsheet would take for a formula.
"""

from __future__ import annotations

import re

# Control characters but tab and newline, lone surrogates, and marks that are not seen and move what is: direction
# overrides, embeddings and isolates (Unicode TR9), zero widths, line separators, the byte order mark.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
# Excel in Chinese and Japanese computes what begins with a full-width sign, too.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|[\t\r\n]")
ELLIPSIS = "…"


def escape_invisible(text: str, length: int = 0) -> str:
    """What is unseen becomes visible as `<U+202E>`; cut at `length` characters, if that is not 0."""
    if length and len(text) > length:
        text = text[:length].rstrip() + ELLIPSIS
    return INVISIBLE.sub(lambda mark: f"<U+{ord(mark[0]):04X}>", text)


def csv_cell(value: object) -> str:
    """A cell of a CSV file; a text that a spreadsheet would compute gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = escape_invisible(str(value))
    return f"'{text}" if FORMULA.match(text) else text
