"""Owns the bound on a request's Content-Type, on every path.

Django reads the header's parameters for every request, and takes a time that grows with the square of its length: for
60 kB in one open quote two seconds of the event loop, before anybody knows who is calling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The longest honest one is a form's, whose boundary has at most 70 characters (RFC 2046, 5.1.1).
MAX_BYTES = 512
WORDS = f"The Content-Type is longer than {MAX_BYTES} bytes."


def has_short_content_type(scope: Mapping[str, Any]) -> bool:
    """Whether a request's Content-Type, in all its lines together, has at most `MAX_BYTES`."""
    return sum(len(value) + 1 for name, value in scope["headers"] if name == b"content-type") <= MAX_BYTES + 1
