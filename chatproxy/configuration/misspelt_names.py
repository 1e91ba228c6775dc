"""Finds variables that look like misspelt settings, such as `OPENAI_APIKEY`, which would be silently ignored.

In an `.env` file, which is for this server only, every unknown name counts as misspelt. In the environment, which is
for all programs, a name counts only if it is nearly that of a setting, and if that setting itself is not set.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from chatproxy.configuration.env_file import read_env_file
from chatproxy.configuration.setting_reader import FILE_NAMES, NO_ENV_FILES, SETTINGS, env_files

# What `.env` may have for `docker compose`, which reads it as well.
FOR_COMPOSE = re.compile(r"POSTGRES_PASSWORD|(?:COMPOSE|DOCKER)_\w+")
# What reads as the name of a variable. Another one is not shown, because it may be a secret whose last letter is `=`.
PLAIN_NAME = re.compile(r"[A-Z_]{1,40}")
LETTERS_FOR_AN_ERROR = 6  # a name of 12 letters may have two errors; every name may have one
MAX_ERRORS = 2


def find_misspelt_names() -> Iterator[str]:
    """Yields a warning for each variable that is probably meant as a setting but has another name.

    In `.env` files, this is any unknown name, except for those that `docker compose` uses. In the environment, it is
    only a name that is nearly that of a setting. Variables with an empty value are left out.

    Raises:
        EnvFileError: an `.env` file cannot be read.
    """
    known = {setting.name for setting in SETTINGS} | FILE_NAMES
    for path in env_files():
        for name, value in read_env_file(path).items():
            if value.strip() and name not in known and not FOR_COMPOSE.fullmatch(name):
                near = nearest_name(name, known)
                shown = name if near or PLAIN_NAME.fullmatch(name) else "a variable"
                question = f"; did you mean {near}?" if near else ""
                yield f"{shown} in {path} is no setting, and has no effect{question}"
    missing = known - set(os.environ)
    for name, value in os.environ.items():
        if value.strip() and name not in known | {NO_ENV_FILES}:
            near = nearest_name(name, missing)
            if near:
                yield f"{name} in the environment is no setting, and has no effect; did you mean {near}?"


def nearest_name(name: str, known: set[str]) -> str:
    """Returns the name among `known` that a misspelt name probably means; "" if none is similar enough."""
    # Each letter too many or too few is an error, and an error changes two letters at most: so most names need not be
    # compared letter by letter.
    written = name.upper()
    alike = sorted(
        one
        for one in known
        if abs(len(one) - len(written)) <= MAX_ERRORS and len({*one} ^ {*written}) <= 2 * MAX_ERRORS
    )
    distance, nearest = min(((count_errors(written, one, MAX_ERRORS), one) for one in alike), default=(99, ""))
    allowed = min(MAX_ERRORS, max(1, len(nearest) // LETTERS_FOR_AN_ERROR))
    return nearest if distance <= allowed else ""


def count_errors(one: str, other: str, most: int = sys.maxsize) -> int:
    """Counts the typing errors that turn one word into another: missing, additional, wrong and exchanged letters.

    Stops counting once there are more than `most`, and then returns a number above `most`.
    """
    # This is the optimal string alignment distance. A row is computed from the two before it, and no error is taken
    # back: once all numbers of two rows are above `most`, the last number will be, too. Nearly all words are so unlike
    # that this is known after a few letters.
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        two_before, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            errors = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                errors = min(errors, two_before[j - 2] + 1)
            row.append(errors)
        if i > 1 and min(row) > most and min(before) > most:
            return most + 1
    return row[-1]
