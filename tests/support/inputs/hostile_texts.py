"""Long texts that make a regular expression slow if its time grows with the square of the text.

Such an expression reads on from one place to the end of the text, fails there, and begins again at the next place.
"""

from __future__ import annotations

from collections.abc import Iterator

LENGTH = 8000  # characters; the square of it takes a third of a second at least
PIECES = (
    '\\"', '"', "\\", "\n", "\r\n", "\\n", "\\r", "\\\\n", " ", "a", "A0", "=", "a=", "/", "<", "'", "“", "[", '{"',
    ":", '"a":', ";", "#", "1.", "a\n", "data:", "basic ", "api_key: ", "sk-", '"type":', '"b64_json":"',
    '"embedding":[1,', "<base64 ",
)  # fmt: skip
ENDS = (("", ""), ('{"', "\\"))


def hostile_texts() -> Iterator[str]:
    """Yields texts of about `LENGTH` characters, each with one piece repeated, and some with a beginning and an end."""
    for piece in PIECES:
        for beginning, end in ENDS:
            yield beginning + piece * (LENGTH // len(piece)) + end
