"""Limits the length of a request's Content-Type, on every path.

Django parses the header's parameters for every request, in a time that grows with the square of the header's length.
For 60 kB in one open quote, that blocks the event loop for two seconds, before the key is checked.
"""

from __future__ import annotations

from asgiref.typing import HTTPScope

# The longest one that clients need is a form's, whose boundary has at most 70 characters (RFC 2046, 5.1.1).
MAX_BYTES = 512
WORDS = f"The Content-Type is longer than {MAX_BYTES} bytes."


def has_short_content_type(scope: HTTPScope) -> bool:
    """Returns whether the Content-Type of a request has at most `MAX_BYTES` bytes.

    Several such headers count as one, with a separator of one byte between them.
    """
    return sum([len(value) + 1 for name, value in scope["headers"] if name == b"content-type"]) <= MAX_BYTES + 1
