"""Matches names of routes, models and objects by globs (`fnmatch`); upper and lower case differ.

All globs of a key are compiled into one regular expression, which is fast even for globs with many stars. `fnmatch`
itself caches only 256 compiled globs, and would try them one by one for each name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

MAX_COMPILED = 1024  # lists of globs, of which a key has one or two


def matches_any(name: str, globs: Iterable[str]) -> bool:
    """Returns whether one of the patterns, such as `gpt-4o*`, matches the whole name."""
    return _compiled(tuple(globs)).match(name) is not None


def is_allowed(name: str, globs: Collection[str]) -> bool:
    """Returns whether a key may use the route or model called `name`.

    `globs` are the patterns of allowed names, such as `gpt-4o*`; an empty collection allows all names.
    """
    return not globs or matches_any(name, globs)


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Compiles patterns such as `gpt-4o*` into one regular expression, which matches if any of the patterns does.

    If there are no patterns, the expression matches nothing.
    """
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")
