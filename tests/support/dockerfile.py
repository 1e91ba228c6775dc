"""Reads the Dockerfile and .dockerignore: the image's instructions, and the files that are copied into it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from chatproxy.configuration.setting_reader import BASE_DIR

TEXT = (BASE_DIR / "Dockerfile").read_text()
IGNORED = (BASE_DIR / ".dockerignore").read_text()


def instructions(keyword: str) -> list[str]:
    """Returns the arguments of all instructions of one kind, such as `RUN`; one line for each instruction."""
    lines = re.sub(r"(?m)^#.*\n", "", TEXT).replace("\\\n", "")
    return re.findall(rf"(?m)^{keyword} +(.*)$", lines)


def environment() -> dict[str, str]:
    """Returns the environment variables that the image sets."""
    return dict(pair.split("=", 1) for text in instructions("ENV") for pair in text.split())


def command_in(text: str) -> list[str]:
    """Returns the command in the arguments of an instruction, which is a list in JSON at their end."""
    command: list[str] = json.loads(text[text.index("[") :])
    return command


def copy_context(target: Path) -> None:
    """Copies the files of the project that are in the image to `target`, as .dockerignore selects them.

    That file must first exclude everything, and then name the files to include.
    """
    everything, *included, caches = re.findall(r"(?m)^[^#\n]+$", IGNORED)
    assert (everything, caches) == ("**", "**/__pycache__")
    for line in included:
        assert line.startswith("!"), line
        path = BASE_DIR / line[1:]
        if path.is_dir():
            shutil.copytree(path, target / line[1:], ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / line[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / line[1:])
