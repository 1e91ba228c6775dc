"""A worker that stands still is replaced soon, and one that finishes long calls is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from chatproxy.processes import gunicorn_conf
from tests.simulator.server import Simulator
from tests.support.polling import wait_until
from tests.support.servers.gateway import Gateway
from tests.support.servers.processes import is_running

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def heartbeat_of(pid: int) -> float:
    """The time of a worker's last heartbeat: that of a nameless file, which it has open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            if "wgunicorn-" in str(entry.readlink()):
                return entry.stat().st_mtime
    raise AssertionError(f"process {pid} has no heartbeat")


def test_a_worker_that_stands_still_is_replaced(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    """With a shorter time than usual, but one in which a worker starts on a busy machine, too."""
    gateway = start_gateway(GUNICORN_CMD_ARGS="--timeout 10")
    (frozen,) = gateway.worker_pids
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(gateway.post, "/openai", {**CALL, "model": "fault:gate"}, headers={"x-request-id": "frozen"})
        simulator.wait_until(lambda: simulator.waiting == 1)
        os.kill(frozen, signal.SIGSTOP)
        with pytest.raises(httpx2.TransportError):
            cut.result()
    wait_until(lambda: not is_running(frozen))
    answer = gateway.post("/openai", CALL)
    assert answer.status_code == 200
    assert gateway.row(answer)["outcome"] == "success"
    (row,) = gateway.rows("WHERE incoming_request_id = 'frozen'", at_least=1)
    assert row["outcome"] == "interrupted"


def test_that_is_less_than_a_minute() -> None:
    assert gunicorn_conf.timeout <= 50


def test_workers_that_stood_still_with_their_master_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rounds = 1000.0, []
    monkeypatch.setattr(gunicorn_conf, "time", SimpleNamespace(monotonic=lambda: now))
    server: Any = SimpleNamespace(murder_workers=lambda: rounds.append(now))
    gunicorn_conf.spare_workers_after_standstill(server)
    steps = [1.0, 3600.0, *[1.0] * int(gunicorn_conf.SPARED_SECONDS)]
    for passed in steps:
        now += passed
        server.murder_workers()
    assert rounds == [1001.0, 1001.0 + 3600.0 + gunicorn_conf.SPARED_SECONDS]


def test_a_worker_that_finishes_its_calls_shows_that_it_lives(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway()
    (worker,) = gateway.worker_pids
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(gateway.post, "/openai", {**CALL, "model": "fault:gate"})
        simulator.wait_until(lambda: simulator.waiting == 1)
        os.kill(worker, signal.SIGTERM)
        gateway.wait_for_log("draining")
        for _ in range(2):
            last = heartbeat_of(worker)
            wait_until(lambda last=last: heartbeat_of(worker) > last)  # type: ignore[misc]
        simulator.release()
        assert held.result().status_code == 200
