"""The shipper's process: its death, its absence and its stop cost no call and no row, whoever dies beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import is_alive
from tests.simulator.server import Simulator
from tests.support.callers.metrics import HI, scrape, value
from tests.support.callers.metrics import wait_until as wait_for_samples
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import Gateway, launch_gateway, run_gateway
from tests.support.servers.processes import assert_nothing_is_left, shipper_of
from tests.support.servers.readiness import wait_until_ok

HELD = {**HI, "model": "fault:gate"}


def state(gateway: Gateway) -> Any:
    return gateway.http.get("/readyz").json()


def test_it_works(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    rows = [gateway.row(gateway.post("/openai", HI)) for _ in range(4)]
    assert [row["outcome"] for row in rows] == ["success"] * 4
    ready = wait_until_ok(gateway).json()
    assert (ready["shipper"], ready["database"]) == ("ok", "ok")
    wait_until(lambda: state(gateway)["journal_lag_bytes"] == 0)
    shipper = shipper_of(gateway)

    assert gateway.stop() == 0
    assert not is_alive(shipper)
    assert_nothing_is_left(gateway)
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_killed_one_is_started_again(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    gateway.row(gateway.post("/openai", HI))
    before = wait_for_samples(gateway, lambda found: value(found, "chatproxy_cost_dollars_total") > 0)
    killed = shipper_of(gateway)
    os.kill(killed, signal.SIGKILL)
    answers = [gateway.post("/openai", HI) for _ in range(5)]
    gateway.wait_for_log("the shipper has ended, and is started again")

    assert [gateway.row(answer)["outcome"] for answer in answers] == ["success"] * 5
    assert shipper_of(gateway) != killed
    dollars = value(before, "chatproxy_cost_dollars_total")
    after = wait_for_samples(gateway, lambda found: value(found, "chatproxy_cost_dollars_total") > 5.9 * dollars)
    assert value(after, "chatproxy_cost_dollars_total") == pytest.approx(6 * dollars)
    assert value(after, "chatproxy_workers") == value(after, "chatproxy_shipper_up") == 1
    assert gateway.manage("ledger", "verify").stdout == "the ledger is whole\n"


def test_a_signal_to_stop_that_it_gets_alone_is_nothing(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    shipper = shipper_of(gateway)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(shipper, number)
    assert gateway.row(gateway.post("/openai", HI))["outcome"] == "success"
    assert shipper_of(gateway) == shipper


def test_one_that_cannot_start_stops_no_call(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    obstacle = tmp_path / "shipper.lock"
    obstacle.mkdir()
    gateway = start_gateway()
    answers = [gateway.post("/openai", HI) for _ in range(3)]
    gateway.wait_for_log("the shipper fails")
    ready = gateway.http.get("/readyz")

    assert [answer.status_code for answer in answers] == [200] * 3
    assert ready.status_code == 200
    facts = ready.json()
    assert (facts["status"], facts["shipper"], facts["database"]) == ("degraded", "not running", "unknown")
    gateway.post("/openai", HI)
    assert state(gateway)["journal_lag_bytes"] > facts["journal_lag_bytes"] > 0
    samples = scrape(gateway)
    assert (value(samples, "chatproxy_shipper_up"), value(samples, "chatproxy_workers")) == (0, 1)
    assert value(samples, "chatproxy_ledger_lag_seconds") > 0
    obstacle.rmdir()
    assert [gateway.row(answer)["outcome"] for answer in answers] == ["success"] * 3


@contextmanager
def held_call(gateway: Gateway, simulator: Simulator) -> Iterator[Callable[[], Any]]:
    """Has a call in flight, which upstream answers when the test calls the function that is yielded."""
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(gateway.post, "/openai", HELD)
        simulator.wait_until(lambda: simulator.waiting == 1)

        def release() -> Any:
            simulator.release()
            return call.result()

        yield release


def test_a_signal_to_all_processes_at_once_lets_calls_and_rows_come_first(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway()
    shipper = shipper_of(gateway)
    with held_call(gateway, simulator) as release:
        os.killpg(gateway.process.pid, signal.SIGTERM)
        gateway.wait_for_log("draining")
        assert is_alive(shipper)
        answer = release()
    assert gateway.process.wait(PATIENCE) == 0

    assert gateway.count(f"WHERE request_id = '{answer.headers['x-proxy-request-id']}' AND outcome = 'success'") == 1
    assert_nothing_is_left(gateway)


def test_after_the_masters_death_it_ships_the_rest_and_ends(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway()
    shipper = shipper_of(gateway)
    with held_call(gateway, simulator) as release:
        gateway.process.kill()
        gateway.wait_for_log("the master process is gone")
        assert is_alive(shipper)
        answer = release()
    wait_until(lambda: not is_alive(shipper))

    assert gateway.count(f"WHERE request_id = '{answer.headers['x-proxy-request-id']}' AND outcome = 'success'") == 1
    assert not any(map(is_alive, gateway.worker_pids))


@pytest.fixture
def two_servers(simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Starts servers with one DATA_DIR, and stops those that still run."""
    with ExitStack() as running:
        yield lambda: running.enter_context(run_gateway(simulator.base_url, gateway_database, tmp_path))


def test_the_shipper_of_a_killed_server_leaves_its_place_to_that_of_a_new_one(
    two_servers: Callable[[], Gateway], simulator: Simulator
) -> None:
    old = two_servers()
    shipper = shipper_of(old)
    with held_call(old, simulator) as release:
        old.process.kill()
        old.wait_for_log("the master process is gone")
        new = two_servers()
        new.wait_for_log("the shipper ships the journals of this host")
        assert new.row(new.post("/openai", HI))["outcome"] == "success"
        wait_until(lambda: not is_alive(shipper))
        answer = release()
    assert new.row(answer)["outcome"] == "success"
    wait_until(lambda: not any(map(is_alive, old.worker_pids)))


def test_it_is_started_again_when_its_code_changes(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    watched = Path("usage/journal_shipping/shipper.py").resolve()
    gateway = launch_gateway(simulator.base_url, gateway_database, tmp_path, options=("--reload",))
    try:
        gateway.wait_for_log("Booting worker")
        before = shipper_of(gateway)
        times = watched.stat()

        def is_replaced() -> bool:
            os.utime(watched)  # again and again: what it was before the shipper looked first is no change
            return not is_alive(before)

        try:
            wait_until(is_replaced)
        finally:
            os.utime(watched, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert gateway.row(gateway.post("/openai", HI))["outcome"] == "success"
    finally:
        gateway.stop()
