"""The end of a terminal (SIGHUP to the process group): streams are finished, and no process is left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.postgres.bundled import BundledPostgres
from tests.simulator.server import Simulator
from tests.support.calls.held_streams import STREAMS, read_streams
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import PATIENCE, Gateway, launch_gateway, run_gateway
from tests.support.servers.processes import assert_nothing_is_left


@pytest.mark.parametrize(("workers", "times"), [("1", 3), ("2", 1)])
def test_a_terminal_that_closes_cuts_no_stream(
    start_gateway: Callable[..., Gateway], simulator: Simulator, workers: str, times: int
) -> None:
    gateway = start_gateway(WEB_CONCURRENCY=workers)

    def hang_up() -> None:
        for _ in range(times):
            os.killpg(gateway.process.pid, signal.SIGHUP)
        for _ in range(int(workers)):
            gateway.wait_for_log("draining")
        gateway.wait_for_log("SIGHUP ends this server.*reloads nothing")

    received = read_streams(gateway, simulator, hang_up)
    assert all(stream.endswith(b"data: [DONE]\n\n") for stream in received)
    assert gateway.process.wait(PATIENCE) == 0
    assert [row["outcome"] for row in gateway.rows(at_least=STREAMS)][-STREAMS:] == ["success"] * STREAMS
    assert_nothing_is_left(gateway)


def test_a_hangup_of_a_worker_alone_is_nothing(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway()
    received = read_streams(gateway, simulator, lambda: os.kill(gateway.worker_pids[0], signal.SIGHUP))
    assert all(stream.endswith(b"data: [DONE]\n\n") for stream in received)
    assert gateway.http.get("/healthz").status_code == 200
    assert len(gateway.worker_pids) == 1


def test_whoever_asked_for_no_hangups_gets_none(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    with run_gateway(simulator.base_url, gateway_database, tmp_path, Path.cwd(), ["nohup"]) as gateway:
        received = read_streams(gateway, simulator, lambda: os.killpg(gateway.process.pid, signal.SIGHUP))
        assert all(stream.endswith(b"data: [DONE]\n\n") for stream in received)
        assert gateway.http.get("/healthz").status_code == 200
        assert "draining" not in gateway.log
        assert gateway.stop() == 0


def test_a_terminal_that_closes_during_the_start_leaves_nothing(simulator: Simulator, tmp_path: Path) -> None:
    gateway = launch_gateway(simulator.base_url, "", tmp_path)
    try:
        wait_until(lambda: BundledPostgres(tmp_path).running)
        os.killpg(gateway.process.pid, signal.SIGHUP)
        assert gateway.process.wait(PATIENCE) == 0
        assert not BundledPostgres(tmp_path).running
    finally:
        gateway.stop(signal.SIGKILL)
        BundledPostgres(tmp_path).stop()
        BundledPostgres(tmp_path).delete()


def test_a_terminal_that_closes_while_workers_boot_ends_everything(
    simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    gateway = launch_gateway(simulator.base_url, gateway_database, tmp_path, WEB_CONCURRENCY="3")
    hanging_up = threading.Event()
    try:
        gateway.wait_for_log("Booting worker")
        while gateway.process.poll() is None and not hanging_up.wait(0.05):
            os.killpg(gateway.process.pid, signal.SIGHUP)
        assert gateway.process.returncode == 0
        assert_nothing_is_left(gateway)
    finally:
        gateway.stop(signal.SIGKILL)
