"""The version is the gateway's wherever it is asked for, also where settings are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.version import VERSION
from tests.support.polling import PATIENCE


@pytest.mark.parametrize("arguments", [["--version"], ["version"], ["serve", "--version"], ["migrate", "--version"]])
def test_every_command_says_the_gateways_version(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=os.environ | {"PORT": "high"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"chatproxy {VERSION}\n", "")


def test_the_version_needs_no_library_of_postgresql() -> None:
    code = "import runpy, sys; sys.modules['psycopg'] = None; runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import sys; sys.argv = ['manage.py', '--version']; {code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, check=True)
    assert done.stdout == f"chatproxy {VERSION}\n"


def test_the_project_file_has_the_same() -> None:
    assert tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"] == VERSION
