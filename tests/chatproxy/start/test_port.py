"""A port in use is waited for: long while workers of a killed server may have it, else shortly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatproxy.start import startup
from chatproxy.start.startup import StartError, check_port
from usage.live import worker_files
from usage.live.worker_files import SHIPPER_SUFFIX, WorkerFile, has_living_worker


class Said:
    """What a person is told; the first line frees the port, as the last worker does when it leaves."""

    def __init__(self, listener: socket.socket) -> None:
        self.lines: list[str] = []
        self._listener = listener

    def write(self, msg: str) -> None:
        self.lines.append(msg)
        self._listener.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")


def test_workers_of_a_killed_server_are_waited_for(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PORT_SECONDS", 0.0)
    worker, said = WorkerFile(dict), Said(listener)
    port = listener.getsockname()[1]
    worker.start()
    try:
        check_port("127.0.0.1", port, said)
    finally:
        worker.stop()
    assert said.lines == [f"chatproxy: waiting for workers of another server of this DATA_DIR to leave port {port}"]


def test_nobody_else_is_waited_for(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PORT_SECONDS", 0.0)
    said = Said(listener)
    with pytest.raises(StartError, match="is in use; stop its owner"):
        check_port("127.0.0.1", listener.getsockname()[1], said)
    assert said.lines == []


@pytest.mark.parametrize(("suffix", "counts"), [("", True), (SHIPPER_SUFFIX, False)])
def test_a_worker_lives_until_it_ends_and_the_shipper_is_none(suffix: str, counts: bool) -> None:
    assert not has_living_worker()
    file = WorkerFile(dict, suffix)
    file.start()
    assert has_living_worker() is counts
    file.stop()
    assert not has_living_worker()
