"""SIGUSR2 on one machine: new code takes over from old code, and no call fails; code that cannot start does not."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
import psycopg
import pytest
from gunicorn.arbiter import Arbiter

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.processes.shipper_watch import ShipperWatch
from chatproxy.processes.upgrade import Upgrade
from chatproxy.version import VERSION
from tests.simulator.server import Simulator
from tests.support.calls.held_streams import STREAMS, read_streams
from tests.support.calls.steady_load import SteadyLoad
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.servers.processes import assert_nothing_is_left, is_running, shipper_of

NEW = f"{VERSION}+new"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, to be changed while a server runs from it."""
    directory = tmp_path / "checkout"
    for name in ("chatproxy", "proxyapi", "usage", "templates"):
        shutil.copytree(BASE_DIR / name, directory / name)  # with its bytecode: each server would compile it anew
    shutil.copy(BASE_DIR / "manage.py", directory)
    return directory


@contextmanager
def running(simulator: Simulator, checkout: Path, database_url: str = "", **settings: str) -> Iterator[Gateway]:
    """A server of `checkout`, with the bundled PostgreSQL unless a database is named."""
    data_dir = checkout.parent / "data"
    data_dir.mkdir()
    try:
        with run_gateway(simulator.base_url, database_url, data_dir, checkout, **settings) as gateway:
            yield gateway
    finally:
        if not database_url:
            BundledPostgres(data_dir).delete()


def put_new_version(checkout: Path) -> None:
    path = checkout / "chatproxy" / "version.py"
    path.write_text(path.read_text().replace(f'"{VERSION}"', f'"{NEW}"'))


def versions(gateway: Gateway) -> set[str]:
    """The versions that answer on new connections."""
    return {httpx2.get(f"{gateway.url}/healthz", timeout=PATIENCE).json()["version"] for _ in range(10)}


def test_new_code_takes_over_and_no_call_fails(simulator: Simulator, checkout: Path) -> None:
    with running(simulator, checkout, WEB_CONCURRENCY="2") as gateway:
        old, old_shipper = gateway.worker_pids, shipper_of(gateway)

        def upgrade() -> None:
            """While streams are open, which the old workers have to finish."""
            put_new_version(checkout)
            gateway.process.send_signal(signal.SIGUSR2)
            gateway.wait_for_log("code on the disk takes over")
            wait_until(lambda: versions(gateway) == {NEW})
            for load in loads:
                load.wait_for_calls(50)

        with (
            SteadyLoad(f"{gateway.url}/openai") as kept,
            SteadyLoad(f"{gateway.url}/openai", new_connections=True) as short,
        ):
            loads = kept, short
            for load in loads:
                load.wait_for_calls(20)
            streams = read_streams(gateway, simulator, upgrade)
        ids = [*kept.ids, *short.ids]
        cut = sum(not stream.endswith(b"data: [DONE]\n\n") for stream in streams)
        failures = [*kept.failures, *short.failures]

        wait_until(lambda: not any(map(is_running, [*old, old_shipper])))
        assert shipper_of(gateway) != old_shipper
        assert gateway.process.poll() is None
        assert gateway.stop() == 0
        assert_nothing_is_left(gateway)
        with running_again(gateway) as url, psycopg.connect(url) as connection:
            found = [str(row[0]) for row in connection.execute("SELECT request_id FROM usage_request").fetchall()]
    lost, doubled = len(set(ids) - set(found)), len(found) - len(set(found))
    sys.stdout.write(f"\n{len(ids)} calls: cut, failed, lost, doubled = {cut}, {len(failures)}, {lost}, {doubled}\n")
    assert (cut, failures, lost, doubled) == (0, [], 0, 0)
    assert len(found) == len(ids) + STREAMS


@contextmanager
def running_again(gateway: Gateway) -> Iterator[str]:
    """The URL of the bundled PostgreSQL of a server that has ended."""
    postgres = BundledPostgres(Path(gateway.variables["DATA_DIR"]))
    postgres.start()
    try:
        yield postgres.url
    finally:
        postgres.stop()


@pytest.mark.parametrize("module", ["entry.py", "http/protocol.py", "processes/worker.py"])
def test_code_that_cannot_start_does_not_take_over(
    simulator: Simulator, gateway_database: str, checkout: Path, module: str
) -> None:
    with running(simulator, checkout, gateway_database) as gateway:
        entry = checkout / "chatproxy" / module
        text = entry.read_text()
        put_new_version(checkout)
        entry.write_text(text + "\nimport no_such_module\n")
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.wait_for_log("cannot start, for the reason above; the server goes on as it is")
        gateway.wait_for_log("no_such_module")
        assert versions(gateway) == {VERSION}
        assert len(gateway.worker_pids) == 1

        entry.write_text(text)  # and once it can
        gateway.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: versions(gateway) == {NEW})
        assert gateway.stop() == 0
        assert_nothing_is_left(gateway)


def test_code_that_is_away_does_not_take_over(simulator: Simulator, gateway_database: str, checkout: Path) -> None:
    with running(simulator, checkout, gateway_database) as gateway:
        put_new_version(checkout)
        away = checkout.rename(checkout.parent / "away")
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.wait_for_log("cannot be run: No such file or directory; the server goes on as it is")
        assert versions(gateway) == {VERSION}

        away.rename(checkout)
        gateway.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: versions(gateway) == {NEW})


def test_a_worker_that_cannot_start_ends_no_other_one(
    simulator: Simulator, gateway_database: str, checkout: Path
) -> None:
    with running(simulator, checkout, gateway_database) as gateway:
        entry = checkout / "chatproxy" / "entry.py"
        text = entry.read_text()
        put_new_version(checkout)
        entry.write_text(text + "\nimport no_such_module\n")
        gateway.process.send_signal(signal.SIGUSR1)  # replaces the workers unprepared
        gateway.wait_for_log("(?s)no other one is started for 1 s.*no other one is started for 2 s")
        assert versions(gateway) == {VERSION}

        entry.write_text(text)
        wait_until(lambda: versions(gateway) == {NEW})
        assert gateway.stop() == 0
        assert_nothing_is_left(gateway)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_signals_may_go_to_all_processes(
    simulator: Simulator, gateway_database: str, checkout: Path, number: int
) -> None:
    with running(simulator, checkout, gateway_database) as gateway:
        shipper_of(gateway)

        def replace() -> None:
            put_new_version(checkout)
            os.killpg(gateway.process.pid, number)
            wait_until(lambda: versions(gateway) == {NEW})

        streams = read_streams(gateway, simulator, replace)
        assert all(stream.endswith(b"data: [DONE]\n\n") for stream in streams)
        assert len(gateway.worker_pids) == 2
        assert "the shipper has ended" not in gateway.log


def test_code_that_cannot_be_executed_leaves_the_server_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refuse(*_: object) -> None:
        said.append("executed")
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    shipper = SimpleNamespace(kill=lambda: said.append("ended"), resume=lambda: said.append("resumed"))
    master = SimpleNamespace(LISTENERS=[], WORKERS={}, cfg=SimpleNamespace(reload=False), reap_workers=None)
    upgrade = Upgrade(cast(ShipperWatch, shipper))
    upgrade.install(cast(Arbiter, master))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    upgrade._become_new_code()

    assert said == ["ended", "executed", "resumed"]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize("moment", ["is prepared", "code on the disk takes over"])
def test_a_server_can_be_stopped_while_its_code_is_replaced(
    simulator: Simulator, gateway_database: str, checkout: Path, moment: str
) -> None:
    with running(simulator, checkout, gateway_database) as gateway:
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.wait_for_log(moment)
        gateway.process.send_signal(signal.SIGUSR2)  # and asking once more ends nothing
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENCE) == 0
        wait_until(lambda: not any(map(is_running, gateway.worker_pids)))
