"""How a server stops: calls in flight are finished, rows written, no process is left. And a dead worker's successor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, json_call
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway
from tests.support.servers.processes import assert_nothing_is_left, is_running, requests_with_signal

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {"security_key": SECURITY_KEY, "model": "fault:gate-stream", "input": "hi", "stream": True}


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, "2"), (signal.SIGINT, "1")])
def test_calls_in_flight_are_finished(
    start_gateway: Callable[..., Gateway], simulator: Simulator, number: int, workers: str
) -> None:
    gateway = start_gateway(WEB_CONCURRENCY=workers)
    with ThreadPoolExecutor(1) as pool, gateway.http.stream("POST", "/openai2", json=STREAM) as stream:
        pieces = stream.iter_raw()
        received = next(pieces)
        plain = pool.submit(gateway.post, "/openai", {**CALL, "model": "fault:gate"})
        simulator.wait_until(lambda: simulator.waiting == 2)
        gateway.process.send_signal(number)
        for _ in range(int(workers)):
            gateway.wait_for_log("draining")
        simulator.release()
        received += b"".join(pieces)
        answer = plain.result()

    assert gateway.process.wait(PATIENCE) == 0
    assert answer.status_code == 200
    assert answer.json()["object"] == "chat.completion"
    assert b"event: response.completed\n" in received
    assert received.endswith(b"data: [DONE]\n\n")
    assert gateway.row(answer)["outcome"] == "success"
    assert gateway.row(stream.headers["x-proxy-request-id"])["outcome"] == "success"
    assert_nothing_is_left(gateway)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_new_connections_are_refused_while_draining(
    start_gateway: Callable[..., Gateway], simulator: Simulator, number: int
) -> None:
    gateway = start_gateway()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(gateway.post, "/openai", {**CALL, "model": "fault:gate"})
        simulator.wait_until(lambda: simulator.waiting == 1)
        gateway.process.send_signal(number)
        gateway.wait_for_log("draining")
        refused = False
        while not refused:  # the listener closes within a tick; before that, a connection may only be queued
            try:
                with connect(gateway) as wire:
                    wire.connection.settimeout(0.2)
                    with suppress(TimeoutError, EOFError, ConnectionResetError, BrokenPipeError):
                        wire.send(json_call("/openai", CALL))
                        assert wire.read_answer().status == 200
            except (ConnectionRefusedError, ConnectionResetError):  # reset: the listener closed during the handshake
                refused = True
        simulator.release()

        assert held.result().status_code == 200
    assert gateway.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_calls_in_flight(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            gateway.post,
            "/openai",
            {**CALL, "model": "fault:hang"},
            headers={"x-request-id": "ended-by-a-second-signal"},
        )
        simulator.wait_until(lambda: simulator.in_flight == 1)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_log("draining")
        gateway.process.send_signal(signal.SIGTERM)
        with suppress(httpx2.RemoteProtocolError):
            assert held.result().status_code >= 500

    gateway.process.wait(PATIENCE)
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert len(gateway.rows("WHERE incoming_request_id = 'ended-by-a-second-signal'", at_least=1)) == 1
    # A worker that takes more than two seconds is killed by gunicorn, which does not wait for its end.
    wait_until(lambda: not any(map(is_running, gateway.worker_pids)))
    assert_nothing_is_left(gateway)


def test_calls_that_arrive_with_the_order_to_cancel_end_too(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    """On idle connections and in the port's queue; the worker stands still until it finds all of it at once."""
    gateway = start_gateway()
    request = json_call("/openai", {**CALL, "model": "fault:hang"})
    with requests_with_signal(gateway, signal.SIGQUIT, request, queued=5):
        assert gateway.process.wait(PATIENCE) == 0
    assert "was sent SIGKILL" not in gateway.log
    assert_nothing_is_left(gateway)


def test_an_idle_server_stops_at_once(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    assert gateway.post("/openai", CALL).status_code == 200  # its connection stays open, idle

    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(PATIENCE) == 0  # a connection that it waited for would stay for 15 minutes
    assert_nothing_is_left(gateway)


def test_rows_waiting_are_written_at_the_stop(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: gateway.post("/openai", CALL), range(200)))
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENCE) == 0

    ids = [answer.headers["x-proxy-request-id"] for answer in answers]
    rows = gateway.rows("WHERE request_id = ANY(%s::uuid[])", [ids])
    assert len(rows) == len(set(ids)) == 200


def test_a_killed_worker_has_a_successor(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    (killed,) = gateway.worker_pids
    os.kill(killed, signal.SIGKILL)
    gateway.wait_for_log(r"(?s)Booting worker.*Booting worker")
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        answer = client.post("/openai", json={"security_key": SECURITY_KEY, **CALL})

    assert answer.status_code == 200
    assert gateway.worker_pids[-1] != killed
    assert gateway.row(answer)["outcome"] == "success"
    assert gateway.stop() == 0
    assert_nothing_is_left(gateway)


def test_a_killed_worker_takes_its_calls_and_no_other_workers(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    gateway.wait_for_log(r"(?s)Booting worker.*Booting worker")
    with connect(gateway) as wire:
        wire.send(json_call("/openai", {**CALL, "model": "fault:gate"}))
        simulator.wait_until(lambda: simulator.waiting == 1)
        for pid in gateway.worker_pids:
            if not holds(pid, wire.connection.getsockname()[1]):
                os.kill(pid, signal.SIGKILL)
        simulator.release()

        assert wire.read_answer().status == 200


def holds(pid: int, client_port: int) -> bool:
    """Whether the process `pid` has the server's end of the connection from `client_port`."""
    with open("/proc/net/tcp") as table:
        inodes = {fields[9] for fields in map(str.split, table) if fields[2].endswith(f":{client_port:04X}")}
    links = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed since
            links.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return any(f"socket:[{inode}]" in links for inode in inodes)
