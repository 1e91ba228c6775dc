"""The demo, and commands with its DATA_DIR, ignore `.env` and variables that may name the database of a real server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chatproxy.configuration import setting_reader
from chatproxy.doctor.finding import Level
from chatproxy.doctor.setting_checks import check_demo_directory
from tests.simulator.demo import demo_directory, demo_environment

REAL = "postgresql://someone@127.0.0.1:1/real"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the project with an `.env` that names a real database."""
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    for name in (setting_reader.NO_ENV_FILES, "DATA_DIR", *setting_reader.REAL_SERVERS):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text(f"DATABASE_URL={REAL}\n")
    return tmp_path


def test_commands_of_the_demo_do_not_reach_the_real_database(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = demo_directory()
    assert place == project / "var" / "demo"
    assert {stat.S_IMODE(one.stat().st_mode) for one in (place, place.parent)} == {0o700}
    assert setting_reader.load()["DATABASE_URL"] == REAL
    monkeypatch.setenv("DATA_DIR", "var/demo")
    assert not setting_reader.load()["DATABASE_URL"]


def test_a_real_server_does_not_start_in_the_directory_of_a_demo(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would ignore the database that its operator has named."""
    assert not list(check_demo_directory())
    monkeypatch.setenv("DATA_DIR", str(demo_directory()))
    [found] = check_demo_directory()
    assert (found.level, setting_reader.DEMO_FILE in found.words) == (Level.FAULT, True)


@pytest.fixture
def shell(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables of a shell that lead to the database, the Redis and the keys of a real server."""
    (project / ".env").unlink()
    (project / "secret").write_text(REAL)
    found = {"DATABASE_URL": REAL, "REDIS_URL": "redis://127.0.0.1:1"}
    found |= dict.fromkeys(setting_reader.FILE_NAMES - {"DATABASE_URL_FILE", "REDIS_URL_FILE"}, "secret")
    for name in setting_reader.SECRETS:  # those of the tests
        monkeypatch.delenv(name, raising=False)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize("is_in_file", [False, True])
def test_commands_of_the_demo_ignore_the_variables_of_a_real_server(
    project: Path, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch, is_in_file: bool
) -> None:
    if is_in_file:
        monkeypatch.delenv("DATABASE_URL")
        monkeypatch.setenv("DATABASE_URL_FILE", "secret")
    monkeypatch.setenv("DATA_DIR", str(demo_directory()))
    values = setting_reader.load()
    assert not {name for name in shell if values[name.removesuffix("_FILE")]}


def test_the_demo_ignores_the_variables_of_a_real_server_in_any_directory(
    project: Path, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", "secret")
    monkeypatch.setenv("MAX_PARALLEL_REQUESTS", "7")
    (project / "real").mkdir()
    found = demo_environment("http://127.0.0.1:1/v1", project / "real")
    assert not found.keys() & setting_reader.REAL_SERVERS
    assert found["MAX_PARALLEL_REQUESTS"] == "7"
    monkeypatch.setattr(os, "environ", found)
    values = setting_reader.load()
    assert (values["DATABASE_URL"], values["REDIS_URL"]) == (None, None)
    assert values["OPENAI_API_KEY"] == "sk-demo-simulated"


def test_a_directory_that_a_real_server_may_use_is_not_marked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "real").mkdir()
    for name, url in [("real", REAL), ("new", "")]:
        monkeypatch.setenv("DATA_DIR", name)
        assert demo_directory() == project / name
        assert (setting_reader.load()["DATABASE_URL"] or "") == url
