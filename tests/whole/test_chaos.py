"""Workers, the master and PostgreSQL are killed, stopped and frozen, the disk fills, journals are damaged: in short.

`make chaos` is the long form. What must hold is in `tests.chaos.books`.
"""

from __future__ import annotations

import subprocess
import sys

from chatproxy.configuration import setting_reader

LONGEST = 360  # seconds; it takes less than 60 when nothing else runs


def test_the_callers_upstream_and_the_ledger_agree() -> None:
    chaos = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"],
        cwd=setting_reader.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )

    assert chaos.returncode == 0, chaos.stdout + chaos.stderr
