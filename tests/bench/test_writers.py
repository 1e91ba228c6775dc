"""The measure of many hosts' writers runs, and finds the ledger whole afterwards."""

from __future__ import annotations

import subprocess
import sys


def test_it_works() -> None:
    command = [sys.executable, "-m", "bench.ledger.writers", "--writers", "1", "3", "--batches", "2", "--rows", "4"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    titles, *lines = (line.split() for line in run.stdout.splitlines())
    assert titles[:3] == ["writers", "rows/s", "batches/s"]
    assert [line[0] for line in lines] == ["1", "3"]
