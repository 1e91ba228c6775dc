"""The measures over a full ledger can fill one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.servers.databases import new_database

FILLING = """
import pathlib, sys
from bench.ledger.pages import prepare
prepare(pathlib.Path(sys.argv[1]), sys.argv[2], 1000)
"""


def test_a_new_database_is_filled(gateway_database: str, tmp_path: Path) -> None:
    with new_database(gateway_database) as url:
        command = [sys.executable, "-c", FILLING, str(tmp_path), url]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "\n1,000 rows: " in run.stdout
