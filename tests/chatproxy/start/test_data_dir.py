"""A DATA_DIR in which something stands that the gateway has not made: it is refused in one line, and left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.start.directory_lock import NAME as LOCK
from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE
from tests.support.servers.environments import sdk_answers
from tests.support.servers.gateway import launch_gateway


def file_at(name: str) -> Callable[[Path], None]:
    def make(data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)  # `doctor` warns of one that is open
        (data_dir / name).write_text("somebody else's")

    return make


def link_at(name: str, target: str) -> Callable[[Path], None]:
    def make(data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)  # `doctor` warns of one that is open
        (data_dir / name).symlink_to(target)

    return make


# By name: what makes the directory, whether the bundled PostgreSQL is used, and words of the refusal.
REFUSED: dict[str, tuple[Callable[[Path], None], bool, str]] = {
    "it leads to itself": (lambda path: path.symlink_to(path), False, "a symbolic link that leads to itself"),
    "it is a file": (lambda path: path.touch(), False, "data is no directory"),
    "the journal is a file": (file_at("journal"), False, "data/journal is no directory"),
    "the journal is elsewhere": (link_at("journal", "nowhere/x"), False, "data/journal is no directory"),
    "the journal leads to itself": (link_at("journal", "journal"), False, "data/journal is no directory"),
    "the workers' files are a file": (file_at("workers"), False, "data/workers is no directory"),
    "the workers' files are elsewhere": (link_at("workers", "nowhere/x"), False, "data/workers is no directory"),
    "the owners are a file": (file_at("owners"), False, "data/owners is no directory"),
    "the database is a file": (file_at("postgres"), True, "data/postgres is a file"),
    "the database is a link to a file": (link_at("postgres", "/etc/hostname"), True, "where there is no database"),
    "the database leads to itself": (link_at("postgres", "postgres"), True, "where there is no database"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_gateways_is_refused_and_left_alone(
    simulator: Simulator, gateway_database: str, tmp_path: Path, name: str
) -> None:
    make, is_bundled, words = REFUSED[name]
    data_dir = tmp_path / "data"
    make(data_dir)
    sdk_answers.give(simulator.base_url, data_dir)  # as `launch_gateway` does
    before = contents(tmp_path)

    gateway = launch_gateway(simulator.base_url, "" if is_bundled else gateway_database, data_dir)
    try:
        code = gateway.process.wait(PATIENCE)
    finally:
        gateway.stop()  # and reads all that it has printed
    log = gateway.log

    assert code == 1
    assert log.count("\n") == 1, log
    assert log.startswith("chatproxy: ")
    assert words in log
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, str]:
    """Returns all files and symbolic links below a directory, with their contents or targets.

    Without the empty file by whose lock a server keeps others out of the directory: it is made first, and stays.
    """
    found = (Path(parent, name) for parent, _, names in os.walk(directory) for name in names if name != LOCK)
    links = (Path(parent, name) for parent, names, _ in os.walk(directory) for name in names)
    texts = {str(path): str(path.readlink()) if path.is_symlink() else path.read_text() for path in found}
    return texts | {str(path): str(path.readlink()) for path in links if path.is_symlink()}
