"""Makes strangers' text harmless, for pages and for spreadsheets.

Templates escape HTML. This module handles what HTML escaping leaves unchanged: control characters, characters that
change the direction of the text around them, and text that a spreadsheet would take for a formula.
"""

from __future__ import annotations

import re

# Control characters but tab and newline, lone surrogates, and invisible characters that move visible ones: direction
# overrides, embeddings and isolates (Unicode TR9), zero widths, line separators, the byte order mark.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
# Excel in Chinese and Japanese takes a text that begins with a full-width sign for a formula, too.
SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
FORMULA = re.compile(rf"\s*[{SIGNS}\t\r\n]|[\t\r\n]")
# Where Excel splits lines at semicolons, as in most of Europe, quotation marks protect a cell only if it begins right
# after one. So a new cell begins behind each semicolon, tab and line break in a text. The expression matches all that
# may stand before a formula's sign at once, from its beginning on: else long white space would take quadratic time.
BEFORE_SIGN = re.compile(rf'(?<![;"\s])[;"\s]+(?=[{SIGNS}])')
CELL_END = re.compile(r"[;\t\r\n]")
ELLIPSIS = "…"


def escape_invisible(text: str, max_length: int = 0) -> str:
    """Replaces each invisible character in a text by its code, such as `<U+202E>`.

    A text of more than `max_length` characters is cut to this length first, and gets an ellipsis; 0 means no limit.
    """
    if max_length and len(text) > max_length:
        text = text[:max_length].rstrip() + ELLIPSIS
    return INVISIBLE.sub(lambda mark: f"<U+{ord(mark[0]):04X}>", text)


def csv_cell(value: object) -> str:
    """Returns a value as the text of a CSV cell, safe to open in a spreadsheet; None becomes an empty text.

    Text that looks like a formula gets an apostrophe in front, also behind a semicolon or a line break in the text,
    where some spreadsheets begin a new cell. Invisible characters are replaced by codes, such as `<U+202E>`. Numbers
    stay as they are.
    """
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = BEFORE_SIGN.sub(_protected, escape_invisible(str(value)))
    return f"'{text}" if FORMULA.match(text) else text


def _protected(before: re.Match[str]) -> str:
    """Returns the text in front of a sign such as `=`, with an apostrophe if a spreadsheet may begin a cell in it."""
    return f"{before[0]}'" if CELL_END.search(before[0]) else before[0]
