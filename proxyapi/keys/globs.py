"""Owns the matching of names by globs (`fnmatch`); upper and lower case differ.

All globs of a key are one compiled pattern, and in it a text with many stars takes no longer than its length allows. Of
`fnmatch` itself only 256 globs are kept compiled, and each name would try them one by one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache

MAX_COMPILED = 1024  # lists of globs, one or two of a key


def matches_any(name: str, globs: Iterable[str]) -> bool:
    """Returns whether one of the globs matches the whole name."""
    return _compiled(tuple(globs)).match(name) is not None


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")
