"""The installation of the requirements says how far it is, and installs nothing that has no hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from tests.support.polling import PATIENCE

INSTALLER = BASE_DIR / "requirements" / "install.py"
PINS = "".join(f"package-{number}[extra]==1.0 \\\n    --hash=sha256:00\n" for number in range(12))
MAKE = shutil.which("make") or "make"
# Stands in the place of pip: it says what pip says, and with which arguments it was called.
PIP = """
import os, sys
for number in range(11):
    print(f"Collecting package-{number}==1.0 (from -r base.txt (line {number}))")
    print(f"  Downloading package_{number}-1.0-py3-none-any.whl (64 kB)")
print("Ignoring package-11: markers 'sys_platform == \\"win32\\"' don't match your environment")
print("Installing collected packages: package-0, package-1")
print("Successfully installed package-0-1.0")
open(os.environ["CALLED"], "w").write(" ".join(sys.argv[1:]))
sys.exit(int(os.environ["CODE"]))
"""


@pytest.mark.parametrize("code", [0, 1])
def test_it_says_how_far_it_is_and_ends_as_pip_does(tmp_path: Path, code: int) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(PIP)
    (tmp_path / "base.txt").write_text(PINS)
    done = subprocess.run(
        [sys.executable, INSTALLER, tmp_path / "base.txt"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "CALLED": str(tmp_path / "called"), "CODE": str(code)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr == ""
    assert done.stdout == "installing 12 packages …\n  10 of 12\n  12 of 12; unpacking them …\n"
    called = (tmp_path / "called").read_text()
    assert "install" in called
    assert f"--require-hashes --requirement {tmp_path / 'base.txt'}" in called


@pytest.mark.parametrize("missing", ["no-such-python", "/no/such/python3.13"])
def test_a_python_that_is_missing_is_named_with_what_to_do(tmp_path: Path, missing: str) -> None:
    done = subprocess.run(
        [MAKE, "--file", BASE_DIR / "Makefile", ".venv/bin/python", f"PYTHON={missing}"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        f"chatproxy: {missing} is no Python 3.11 or later; name another: PYTHON=/path/to/python3.13"
    )
    assert not (tmp_path / ".venv").exists()
