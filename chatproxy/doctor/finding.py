"""The result of a check: one line for a person, and its gravity."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """The gravity of a finding: most faults prevent the start of a server, a warning is for a person to judge."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(NamedTuple):
    """The result of one check. `words` is one line that names the value and what to do, and contains no secret.

    `prevents_start` is false of a fault with which a server starts nevertheless, since its pages help to mend it.
    """

    level: Level
    words: str = ""
    prevents_start: bool = True


def warning(words: str) -> Finding:
    """Creates the finding that something may be wrong; the server starts nevertheless."""
    return Finding(Level.WARNING, words)


def fault(words: str, *, prevents_start: bool = True) -> Finding:
    """Creates the finding that something is certainly wrong; the server does not start, unless told otherwise."""
    return Finding(Level.FAULT, words, prevents_start)
