"""The result of a check: one line for a person, and its gravity."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """The gravity of a check's finding: `OK` says that nothing is wrong, `WARNING` that something may be wrong.

    `FAULT` says that something is wrong; most faults keep the server from starting.
    """

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(NamedTuple):
    """The result of one check of the server: its gravity, and one line with what was found and what to do (`words`).

    The line contains no secret. `prevents_start` says whether a fault stops the server from starting. It is false for a
    fault that people can mend with the help of the pages of a running server.
    """

    level: Level
    words: str = ""
    prevents_start: bool = True


def warning(words: str) -> Finding:
    """Creates the finding that something may be wrong; the server starts nevertheless."""
    return Finding(Level.WARNING, words)


def fault(words: str, *, prevents_start: bool = True) -> Finding:
    """Creates the finding that something is certainly wrong; with `prevents_start`, the server does not start."""
    return Finding(Level.FAULT, words, prevents_start)
