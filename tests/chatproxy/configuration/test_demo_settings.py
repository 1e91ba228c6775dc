"""Commands with the DATA_DIR of a demo ignore `.env`, which may name the database of a real server."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chatproxy.configuration import setting_reader
from tests.simulator.demo import demo_directory

REAL = "postgresql://someone@127.0.0.1:1/real"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the project with an `.env` that names a real database."""
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    for name in (setting_reader.NO_ENV_FILES, "DATABASE_URL", "DATA_DIR"):
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


def test_a_directory_that_a_real_server_may_use_is_not_marked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "real").mkdir()
    for name, url in [("real", REAL), ("new", "")]:
        monkeypatch.setenv("DATA_DIR", name)
        assert demo_directory() == project / name
        assert (setting_reader.load()["DATABASE_URL"] or "") == url
