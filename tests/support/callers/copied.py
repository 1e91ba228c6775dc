"""Runs texts that a page has for copying, as a person would: in a shell, or as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.servers.gateway import PATIENCE


def run_copied(text: str, tmp_path: Path, *program: str) -> str:
    """Runs a copied text with the interpreter `program` (by default a shell), and returns what it prints.

    The program gets none of this process's environment variables. A `curl` that fails is an error.
    """
    (tmp_path / ".curlrc").write_text(f"silent\nshow-error\nfail-with-body\nnoproxy = *\nmax-time = {PATIENCE}\n")
    done = subprocess.run(
        [*(program or ("/bin/sh", "-e", "-c")), text],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
