"""`manage.py doctor` as a command: a line for each check, an exit code, and nothing changed. `serve` obeys the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from chatproxy.configuration import setting_reader
from chatproxy.doctor import checkup
from chatproxy.doctor.finding import Finding, Level, fault
from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE
from tests.support.servers.databases import empty_database
from tests.support.servers.environments import variables
from tests.support.servers.gateway import Gateway, launch_gateway

LINE = re.compile(r"(ok|warning|fault) +(\S+(?: \S+)*)(?:  +(\S.*))?")
NAMES = [*checkup.OF_HOST, *checkup.OF_UPSTREAM, *checkup.OF_DATABASE, *checkup.OF_LEDGER]
PASSWORD = "pw-4d1c7f9a02be"


def examine(data_dir: Path, **settings: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Runs `manage.py doctor`; returns its exit code, and the level and the words of each check by name."""
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor"],
        cwd=setting_reader.BASE_DIR,
        env=variables(data_dir, **settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    found = {}
    for line in done.stdout.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found[match[2]] = (match[1], match[3] or "")
    return done.returncode, found


def test_a_running_server_is_well(gateway: Gateway) -> None:
    done = gateway.manage("doctor")
    assert done.returncode == 0, done.stdout
    names = [match[2] for line in done.stdout.splitlines() if (match := LINE.fullmatch(line))]
    assert names == NAMES
    assert re.search(r"(?m)^ok +database version +PostgreSQL \d+\.\d+$", done.stdout)
    assert "fault" not in done.stdout


def test_before_the_first_start_nothing_is_made(tmp_path: Path) -> None:
    code, found = examine(tmp_path / "data")
    assert code == 0
    assert found["data directory"] == ("ok", "")
    assert found["database"][0] == "warning"
    assert "does not run" in found["database"][1]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_well(gateway_database: str, tmp_path: Path) -> None:
    with empty_database(gateway_database) as url:
        code, found = examine(tmp_path, DATABASE_URL=url)
        with psycopg.connect(url) as database:
            assert database.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert code == 0
    assert found["secrets of the database"][0] == "ok"
    assert "has not been migrated" in found["secrets of the database"][1]


def test_a_database_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    url = f"postgresql://me:{PASSWORD}@127.0.0.1:1/db?connect_timeout=2"
    code, found = examine(tmp_path, DATABASE_URL=url, REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:1/0")
    assert code == 1
    assert found["database"] == ("fault", "the database cannot be reached: Connection refused")
    assert found["Redis"][0] == "warning"
    assert "ConnectionError" in found["Redis"][1]
    assert PASSWORD not in str(found)


def test_other_secrets_are_a_fault(gateway: Gateway, tmp_path: Path) -> None:
    """Of the server's own database, from another host, as it were."""
    other = {"DJANGO_SECRET_KEY": "another-secret-of-mine-9876543210-zyxwvutsrqponmlkji"}
    known = {name: value for name, value in gateway.variables.items() if name in setting_reader.SECRETS}
    code, found = examine(tmp_path, **known | other, DATABASE_URL=gateway.variables["DATABASE_URL"])
    assert code == 1
    level, words = found["secrets of the database"]
    assert level == "fault"
    assert "is not the one that the keys in this database were made with" in words
    assert other["DJANGO_SECRET_KEY"] not in str(found)


def test_a_server_says_what_is_doubtful_and_starts(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    settings = {"REDIS_ULR": f"redis://:{PASSWORD}@host", "WEB_CONCURRENCY": "2"}
    gateway = launch_gateway(simulator.base_url, gateway_database, tmp_path, **settings)
    try:
        gateway.wait_for_log("Booting worker")
        said = [line for line in gateway.log.splitlines() if line.startswith("chatproxy: ")]
    finally:
        gateway.stop()
    assert any(re.search("REDIS_ULR in the environment .* did you mean REDIS_URL", line) for line in said)
    assert any("WEB_CONCURRENCY is more than 1 without REDIS_URL" in line for line in said)
    assert PASSWORD not in "".join(said)


def test_options_that_take_precedence_over_settings_are_doubtful(tmp_path: Path) -> None:
    code, found = examine(tmp_path / "data", GUNICORN_CMD_ARGS="--bind 0.0.0.0:9999 --workers 3")
    assert code == 0
    level, words = found["options of gunicorn"]
    assert level == "warning"
    assert "precedence over HOST, PORT, WEB_CONCURRENCY" in words
    assert examine(tmp_path / "data")[1]["options of gunicorn"] == ("ok", "")


def test_a_check_that_finds_nothing_is_ok() -> None:
    checks = {"silent": lambda: [], "two": lambda: [fault("a"), fault("b")], "left out": lambda: [fault("c")]}
    assert list(checkup.run_checks(checks, {"left out"})) == [
        ("silent", Finding(Level.OK)),
        ("two", fault("a")),
        ("two", fault("b")),
    ]


@pytest.mark.parametrize("option", [["--reload"], ["--demo"]])
def test_debug_pages_are_for_these_options_on_the_loopback_only(tmp_path: Path, option: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "serve", *option],
        cwd=setting_reader.BASE_DIR,
        env=variables(tmp_path, DEBUG="true", HOST="0.0.0.0"),  # noqa: S104  (it is refused)
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("chatproxy: DEBUG is true and HOST 0.0.0.0 can be reached by others; ")
