"""Runs promtool, Prometheus' own program that checks rules and the language of its queries."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.polling import PATIENCE


def run_promtool(*arguments: str | Path) -> None:
    """Runs promtool, which must find no fault; skips the test if promtool is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool; on Debian and Ubuntu: apt install prometheus")
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
