"""The systemd unit in docs/deploy.md: systemd takes it, and its times and signals are those of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from getpass import getuser
from pathlib import Path

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.processes import gunicorn_conf, shipper_watch
from tests.support.documentation import blocks_in, section

(UNIT,) = blocks_in(section("## As a service of systemd"), "ini")
POSTGRES_SECONDS = 30


def service() -> dict[str, str]:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as configparser documents it
    parser.read_string(UNIT)
    return dict(parser["Service"])


def test_it_is_stopped_by_one_signal_and_has_the_time_that_it_may_need() -> None:
    found = service()
    assert (found["KillMode"], found["KillSignal"]) == ("mixed", "SIGTERM")
    assert int(found["TimeoutStopSec"]) >= (
        gunicorn_conf.graceful_timeout + shipper_watch.STOP_SECONDS + POSTGRES_SECONDS
    )
    assert found["ExecReload"] == "/bin/kill -USR2 $MAINPID"


def test_systemd_takes_it(tmp_path: Path) -> None:
    command = shutil.which("systemd-analyze")
    if command is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "chatproxy.service"
    text = UNIT.replace("/opt/chatproxy/.venv/bin/python", sys.executable).replace("/opt/chatproxy", str(BASE_DIR))
    unit.write_text(re.sub("(?m)^User=.*$", f"User={getuser()}", text))
    done = subprocess.run([command, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "chatproxy.service" in line]) == (0, [])
