"""Long texts that make a regular expression slow if its time grows with the square of the text.

Such an expression reads on from one place to the end of the text, fails there, and begins again at the next place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

PIECES = (
    '\\"', '"', "\\", "\n", "\r\n", "\\n", "\\r", "\\\\n", " ", "a", "A0", "=", "a=", "/", "<", "'", "“", "[", '{"',
    ":", '"a":', ";", "#", "1.", "a\n", "data:", "basic ", "api_key: ", "sk-", '"type":', '"b64_json":"',
    '"embedding":[1,', "<base64 ",
)  # fmt: skip
ENDS = (("", ""), ('{"', "\\"))


def hostile_texts() -> Iterator[Callable[[int], str]]:
    """Yields functions from a length in characters to a text that is about as long.

    Each text has one piece repeated, some have a beginning and an end.
    """
    for piece in PIECES:
        for beginning, end in ENDS:
            yield partial(_repeated, piece, beginning, end)


def _repeated(piece: str, beginning: str, end: str, length: int) -> str:
    return beginning + piece * (length // len(piece)) + end
