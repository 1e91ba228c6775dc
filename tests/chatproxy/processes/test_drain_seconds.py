"""DRAIN_SECONDS: balancers learn that a server stops while it still serves, and what it has accepted is served."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import httpx2
import pytest
from uvicorn import Config

from chatproxy.http.connections import Connections
from chatproxy.processes import draining_server, unix_signals
from chatproxy.processes.draining_server import REPLACED_DRAIN_SECONDS, DrainingServer
from tests.simulator.server import Simulator
from tests.support.callers.wire import json_call
from tests.support.polling import wait_until
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway
from tests.support.servers.processes import assert_nothing_is_left, is_running, requests_with_signal

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
LONG_SECONDS = 3600.0
LONG = "3600"


def call_on_new_connection(gateway: Gateway) -> httpx2.Response:
    return httpx2.post(f"{gateway.url}/openai", json={"security_key": SECURITY_KEY, **CALL}, timeout=PATIENCE)


def ask_readiness(gateway: Gateway) -> httpx2.Response:
    return httpx2.get(f"{gateway.url}/readyz", timeout=PATIENCE)


@pytest.mark.parametrize("target", [os.kill, os.killpg], ids=["the master", "all processes"])
def test_calls_go_on_while_balancers_are_told(
    start_gateway: Callable[..., Gateway], simulator: Simulator, target: Callable[[int, int], None]
) -> None:
    gateway = start_gateway(DRAIN_SECONDS=LONG, WEB_CONCURRENCY="2")
    assert gateway.http.get("/readyz").status_code == 200
    target(gateway.process.pid, signal.SIGTERM)
    gateway.wait_for_log("(?s)draining.*draining")

    # On a connection from before, and on new ones, for both workers. A worker may have its signal before the master.
    wait_until(lambda: gateway.http.get("/readyz").status_code == 503)
    wait_until(lambda: {ask_readiness(gateway).status_code for _ in range(10)} == {503})
    readiness = ask_readiness(gateway)
    assert readiness.json()["draining"] is True
    assert readiness.headers["connection"] == "close"
    answers = [call_on_new_connection(gateway) for _ in range(10)]
    assert {(answer.status_code, answer.headers["connection"]) for answer in answers} == {(200, "close")}

    with ThreadPoolExecutor(1) as pool:  # a second signal ends the wait, and cuts no call
        held = pool.submit(gateway.post, "/openai", {**CALL, "model": "fault:gate"})
        simulator.wait_until(lambda: simulator.waiting == 1)
        gateway.process.send_signal(signal.SIGTERM)
        with suppress(httpx2.ConnectError):
            while True:  # served or refused, and nothing between
                assert call_on_new_connection(gateway).status_code == 200
        simulator.release()
        assert held.result().status_code == 200
    assert gateway.process.wait(PATIENCE) == 0
    assert [gateway.row(answer)["outcome"] for answer in answers] == ["success"] * len(answers)
    assert_nothing_is_left(gateway)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_whoever_sits_at_the_terminal_does_not_wait(start_gateway: Callable[..., Gateway], number: int) -> None:
    gateway = start_gateway(DRAIN_SECONDS=LONG)
    gateway.process.send_signal(number)
    assert gateway.process.wait(PATIENCE) == 0


def test_the_wait_ends_by_itself(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(DRAIN_SECONDS="0.5")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(PATIENCE) == 0


def test_a_worker_without_its_master_does_not_wait(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(DRAIN_SECONDS=LONG)
    gateway.process.kill()
    gateway.process.wait()
    wait_until(lambda: not any(map(is_running, gateway.worker_pids)))


def test_what_was_accepted_is_served(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    """Connections in the port's queue and requests on idle connections, all of them sent before the port is closed.

    The worker stands still meanwhile, so that it finds the signal and the requests at the same time.
    """
    gateway = start_gateway()
    with requests_with_signal(gateway, signal.SIGTERM, json_call("/openai", CALL), queued=20) as wires:
        answers = [wire.read_answer() for wire in wires]

    assert [answer.status for answer in answers] == [200] * 25
    assert gateway.process.wait(PATIENCE) == 0
    assert len(simulator.requests) == 25
    ids = [answer.headers["x-proxy-request-id"] for answer in answers]
    assert len(gateway.rows("WHERE request_id = ANY(%s::uuid[])", [ids], at_least=25)) == 25


@pytest.mark.parametrize(
    ("drain_seconds", "server_stops_after", "closes_after"),
    [
        (0, math.inf, REPLACED_DRAIN_SECONDS),
        (5, math.inf, 5),
        (0, 0, 0),
        (0, 0.5, 0.5),
        (5, 2, 2),
    ],
)
def test_a_replaced_worker_tells_its_clients_before_it_closes_the_port(
    monkeypatch: pytest.MonkeyPatch, drain_seconds: float, server_stops_after: float, closes_after: float
) -> None:
    """A client that calls all the time would otherwise lose the call that it sends while its connection is closed."""
    now = 100.0
    monkeypatch.setattr(draining_server, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(unix_signals.stop_moment, "at", now + server_stops_after)
    connections = Connections()
    server = DrainingServer(Config("chatproxy.asgi:application"), os.getppid(), drain_seconds, connections, print)

    server.drain()
    assert connections.is_draining
    assert server.should_exit == (closes_after == 0)
    if closes_after:
        now += closes_after - 0.01
        asyncio.run(server.on_tick(0))
        assert not server.should_exit
        now += 0.02
        asyncio.run(server.on_tick(0))
        assert server.should_exit


@pytest.mark.parametrize("stop", ["drain", "cancel_calls"])
def test_a_server_that_sleeps_is_woken_to_stop(monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    """An idle worker looks seldom at what is to be done."""
    monkeypatch.setattr(draining_server, "TICK_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(draining_server, "DRAINING_TICK_SECONDS", 0.01)
    monkeypatch.setattr(draining_server, "REPLACED_DRAIN_SECONDS", 0.05)

    async def serve_and_stop() -> None:
        server = DrainingServer(Config("chatproxy.asgi:application"), os.getppid(), 0, Connections(), print)
        loop = asyncio.create_task(server.main_loop())
        await asyncio.sleep(0)  # until it sleeps
        assert not loop.done()
        getattr(server, stop)()
        async with asyncio.timeout(PATIENCE):
            await loop

    asyncio.run(serve_and_stop())
