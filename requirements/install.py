"""Installs pinned packages with pip, and says how far it is: `python requirements/install.py requirements/base.txt`.

pip itself is either silent for minutes, or says several lines for each package.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PIN = re.compile(r"^[A-Za-z0-9._-]+(?:\[[^\]]*\])?==", re.MULTILINE)
# What pip says for each package: it looks for it, or leaves it out, since it is for another system.
TAKEN = re.compile(r"(?:Collecting|Requirement already satisfied:|Ignoring) ([A-Za-z0-9._-]+)")
LINES_APART = 10  # packages between two lines of a log; a terminal shows each in the same line


def install(requirements: Path) -> int:
    """Installs the packages that a file of pins lists, and returns pip's exit code."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    command += ["--require-hashes", "--requirement", str(requirements)]
    total = len(PIN.findall(requirements.read_text()))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pip:  # noqa: S603  (no shell)
        assert pip.stdout is not None  # noqa: S101  (a pipe)
        for text in progress(pip.stdout, total, is_terminal=sys.stdout.isatty()):
            sys.stdout.write(text)
            sys.stdout.flush()
    return pip.returncode


def progress(output: Iterable[str], total: int, *, is_terminal: bool) -> Iterator[str]:
    """Yields what to print while pip prints the lines `output`, to install `total` packages.

    On a terminal each text replaces the one before.
    """
    yield f"installing {total} packages …\n"
    taken = 0
    for line in output:
        if match := TAKEN.match(line):
            taken += 1
            if is_terminal:
                yield f"\r  {taken} of {total}: {match[1]:<40}"
            elif taken % LINES_APART == 0:
                yield f"  {taken} of {total}\n"
        elif line.startswith("Installing collected packages"):
            words = f"  {taken} of {total}; unpacking them …"
            yield f"\r{words:<60}\n" if is_terminal else f"{words}\n"


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
