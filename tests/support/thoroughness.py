"""Decides how many of many similar test cases are run: all by `make test`, a tenth by `make check`.

Hypothesis' profile shows which run it is (`tests/conftest.py`): `quick` has a tenth of the usual number of examples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from hypothesis import settings

USUAL_EXAMPLES = 100  # Hypothesis' default
T = TypeVar("T")


def examples(number: int) -> settings:
    """Returns Hypothesis' settings for a test with `number` examples; with a tenth of them if the run is quick."""
    return settings(max_examples=max(1, number * settings().max_examples // USUAL_EXAMPLES))


def some(cases: Iterable[T]) -> Iterator[T]:
    """Yields all of many similar test cases; only every tenth of them if the run is quick."""
    return itertools.islice(cases, 0, None, max(1, USUAL_EXAMPLES // settings().max_examples))
