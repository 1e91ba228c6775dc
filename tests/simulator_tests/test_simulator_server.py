"""The simulator under many clients, and seen from another process."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.simulator import (
    Simulator,
    run_simulator,
)
from tests.simulator.wire.faults import parse_fault
from tests.simulator_tests.examples import ASK
from tests.support.polling import PATIENCE


def test_many_streams_at_once(simulator: Simulator) -> None:
    async def run() -> list[int]:
        options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
        async with AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", **options) as client:

            async def one() -> int:
                asked = {**ASK, "model": "fault:events-20+pace-0.01"}
                stream = await client.chat.completions.create(**asked, stream=True)
                return len([chunk async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(50)))

    assert asyncio.run(run()) == [22] * 50
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert {request.outcome for request in simulator.requests} == {"completed"}


def test_the_pages_for_other_processes(simulator: Simulator, http: httpx2.Client) -> None:
    root = simulator.base_url.removesuffix("/v1") + "/_simulator"
    http.post("/chat/completions?a=1", json=ASK, headers=[("x-a", "1"), ("x-a", "2")])
    (seen,) = httpx2.get(f"{root}/requests", timeout=PATIENCE).json()
    assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/v1/chat/completions", "a=1")
    assert [pair for pair in seen["headers"] if pair[0] == "x-a"] == [["x-a", "1"], ["x-a", "2"]]
    assert json.loads(seen["body"]) == ASK
    assert httpx2.post(f"{root}/faults", json={"fault": "status-500"}, timeout=PATIENCE).json()["queued_faults"] == 1
    assert http.get("/models").status_code == 500
    assert httpx2.get(f"{root}/state", timeout=PATIENCE).json()["in_flight"] == 0
    assert httpx2.post(f"{root}/hold", timeout=PATIENCE).json()["held"] is True
    thread = threading.Thread(target=http.get, args=("/models",))
    thread.start()
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert httpx2.post(f"{root}/release", timeout=PATIENCE).json()["waiting"] == 0
    thread.join(PATIENCE)
    assert httpx2.get(f"{root}/nothing", timeout=PATIENCE).status_code == 404
    assert httpx2.post(f"{root}/faults", json={"fault": "nonsense"}, timeout=PATIENCE).status_code == 400
    httpx2.delete(f"{root}/requests", timeout=PATIENCE)
    assert httpx2.get(f"{root}/requests", timeout=PATIENCE).json() == []


def test_the_command_says_where_it_listens_and_stops_when_told() -> None:
    command = [sys.executable, "-m", "tests.simulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("simulator listening on http://127.0.0.1:")
        url = line.split()[-1]
        assert (
            httpx2.get(f"{url}/models", headers={"authorization": "Bearer sk-x"}, timeout=PATIENCE).status_code == 200
        )
        process.terminate()
        assert process.wait(PATIENCE) in {0, -15}


def test_it_stops_while_an_answer_hangs() -> None:
    with run_simulator() as simulator:
        connection = httpx2.Client(timeout=2 * PATIENCE)
        thread = threading.Thread(target=_swallow, args=(connection, f"{simulator.base_url}/models"))
        thread.start()
        simulator.wait_until(lambda: simulator.in_flight == 1)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    connection.close()


def _swallow(client: httpx2.Client, url: str) -> None:
    with pytest.raises(httpx2.HTTPError):
        client.get(url, headers={"authorization": "Bearer sk-x", "x-simulator-fault": "hang"})


@pytest.mark.parametrize("fault", ["", "slow", "slow-x", "split-0", "status-999", "cut-", "events"])
def test_an_unknown_fault_is_said_to_be_one(fault: str) -> None:
    with pytest.raises(ValueError, match=r"knows no fault|out of range"):
        parse_fault(fault)


def test_a_frozen_simulator_says_the_same_again(simulator: Simulator, http: httpx2.Client) -> None:
    def answers(seed: str) -> list[tuple[bytes, list[tuple[str, str]]]]:
        simulator.freeze(seed)
        given = [http.post("/chat/completions", json={**ASK, "stream": stream}) for stream in (True, False)]
        given.append(http.post("/conversations", json={}))
        return [(one.content, [pair for pair in one.headers.items() if pair[0] != "date"]) for one in given]

    first = answers("a")
    assert answers("a") == first
    assert answers("b") != first
    simulator.clear()
    assert http.post("/conversations", json={}).content != first[2][0]


def test_an_early_answer_does_not_wait_for_the_body(simulator: Simulator) -> None:
    host, port = simulator.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer sk-test\r\n"
            b"X-Simulator-Fault: early+status-429\r\nContent-Length: 100\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 429 ")
