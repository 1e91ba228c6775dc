"""One server uses a DATA_DIR: a second one says so and ends, and whoever starts after a death need not wait."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from chatproxy.management.commands import serve
from chatproxy.start import startup
from chatproxy.start.directory_lock import NAME, is_directory_locked, lock_directory
from chatproxy.start.startup import StartError, check_port, lock_data_dir
from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import Gateway, launch_gateway, run_gateway

HOLD = "import sys; from chatproxy.start.directory_lock import *; from pathlib import Path\n"
HOLD += "assert lock_directory(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which has locked `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def test_the_lock_ends_with_its_process(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    assert is_directory_locked(tmp_path)
    assert not lock_directory(tmp_path)
    holder.kill()
    holder.wait()
    assert not is_directory_locked(tmp_path)
    assert lock_directory(tmp_path)
    assert lock_directory(tmp_path)  # as new code in the same process does
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_directory_without_a_lock_file_is_not_locked(tmp_path: Path) -> None:
    assert not is_directory_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_server_at_the_same_port_does_not_wait(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, holder: subprocess.Popen[bytes]
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(startup, "PORT_SECONDS", PATIENCE)
    monkeypatch.setattr(startup, "has_living_worker", lambda: True)
    refused = pytest.raises(StartError, match=f"another chatproxy runs on {tmp_path};")
    with socket.create_server(("127.0.0.1", 0)) as taken, refused:
        check_port("127.0.0.1", taken.getsockname()[1], sys.stderr)


def test_a_lock_file_that_cannot_be_made_is_one_line(tmp_path: Path, settings: Settings) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / NAME).mkdir()
    with pytest.raises(StartError, match=f"DATA_DIR {tmp_path} cannot be locked: Is a directory"):
        lock_data_dir()


def test_code_that_takes_over_goes_on_beside_another_server(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, holder: subprocess.Popen[bytes]
) -> None:
    """The running code was perhaps of a version that took no lock."""
    settings.DATA_DIR = tmp_path
    said = StringIO()
    command = serve.Command(stderr=said)
    with pytest.raises(StartError):
        command.lock_data_dir()
    monkeypatch.setattr(serve, "is_taking_over", lambda: True)
    command.lock_data_dir()
    assert said.getvalue().startswith(f"chatproxy: another chatproxy runs on {tmp_path}")


# --- with a database that is not the bundled one


@pytest.fixture
def start(simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Starts servers with one DATA_DIR, and stops those that still run."""
    with ExitStack() as running:
        yield lambda: running.enter_context(run_gateway(simulator.base_url, gateway_database, tmp_path))


@pytest.fixture
def is_refused(simulator: Simulator, gateway_database: str, tmp_path: Path) -> Callable[..., bool]:
    """Starts another server with the same DATA_DIR, and returns whether its only line names the directory."""

    def run(**variables: str) -> bool:
        second = launch_gateway(simulator.base_url, gateway_database, tmp_path, **variables)
        try:
            assert second.process.wait(PATIENCE) == 1
        finally:
            second.stop()
        words = f"chatproxy: another chatproxy runs on {tmp_path}; stop it, or give this one its own DATA_DIR\n"
        return second.log == words

    return run


def test_a_second_server_does_not_start_until_the_first_one_has_ended(
    start: Callable[[], Gateway], is_refused: Callable[..., bool]
) -> None:
    first = start()
    assert is_refused()
    assert is_refused(PORT=first.variables["PORT"])
    first.process.send_signal(signal.SIGUSR2)
    first.wait_for_log("(?s)takes over.*Booting worker")
    assert is_refused()
    assert first.http.get("/readyz").status_code == 200
    first.process.kill()
    first.process.wait()
    assert start().http.get("/readyz").status_code == 200  # although workers of the first one may live
