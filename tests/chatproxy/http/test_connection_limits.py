"""Idle connections keep no new client out; tested over sockets, against a whole server."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.metrics import value, wait_until
from tests.support.callers.wire import Wire, WireAnswer, head, json_call
from tests.support.polling import wait_until as wait_until_true
from tests.support.servers.gateway import PATIENCE, Gateway, launch_gateway, run_gateway
from tests.support.servers.readiness import wait_until_ok

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
GATED = {**CALL, "model": "fault:gate"}
HELD = {"model": "fault:events-5+silent-600", "input": "hi", "stream": True}


@contextmanager
def connected(gateway: Gateway, address: str = "127.0.0.1") -> Iterator[Wire]:
    """Opens a connection from a local `address`; all of 127.0.0.0/8 is this machine."""
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE, (address, 0)) as connection:
        yield Wire(connection)


def is_closed(wire: Wire) -> bool:
    """Whether the server closes the connection; waits until it does, or sends something."""
    try:
        return wire.connection.recv(1) == b""
    except ConnectionError:
        return True


def still_answers(wire: Wire) -> bool:
    try:
        wire.send(head("GET", "/healthz"))
        return wire.read_answer().status == 200
    except (OSError, EOFError):
        return False


def run_with_few_files(files: int) -> list[str]:
    """The beginning of a command that runs the rest of it with a limit of open files."""
    return ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]


@pytest.fixture
def opened() -> Iterator[Callable[..., Wire]]:
    with ExitStack() as stack:
        yield lambda gateway, address="127.0.0.1": stack.enter_context(connected(gateway, address))


def test_idle_strangers_lock_nobody_out(start_gateway: Callable[..., Gateway], opened: Callable[..., Wire]) -> None:
    gateway = start_gateway(MAX_CONNECTIONS="20")
    caller = opened(gateway)
    caller.send(json_call("/v1/chat/completions", CALL))
    assert caller.read_answer().status == 200
    strangers = []
    for number in range(60):
        wire = opened(gateway, f"127.0.0.{1 + number % 4}")
        assert still_answers(wire)
        strangers.append(wire)

    caller.send(json_call("/v1/chat/completions", CALL))
    assert caller.read_answer().status == 200
    assert gateway.get("/v1/models").status_code == 401  # a new connection is served
    assert is_closed(strangers[0])
    assert sum(map(still_answers, strangers)) < 20


def test_one_address_has_half_of_them(start_gateway: Callable[..., Gateway], opened: Callable[..., Wire]) -> None:
    gateway = start_gateway(MAX_CONNECTIONS="20")
    other = opened(gateway, "127.0.0.2")
    assert still_answers(other)
    crowd = [opened(gateway, "127.0.0.3") for _ in range(30)]
    assert still_answers(crowd[-1])

    assert sum(map(still_answers, crowd)) == 10
    assert still_answers(other)


def test_calls_in_flight_are_not_cut_for_new_connections(
    start_gateway: Callable[..., Gateway], opened: Callable[..., Wire]
) -> None:
    gateway = start_gateway(MAX_CONNECTIONS="20")
    calls = [opened(gateway, "127.0.0.2") for _ in range(10)]
    for call in calls:
        call.send(json_call("/v1/responses", HELD))
        assert call.read_head().status == 200
    refused = opened(gateway, "127.0.0.2")

    answer = refused.read_answer()  # before it has asked for anything
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert is_closed(refused)
    for call in calls:
        assert next(call.read_chunks())
    assert gateway.get("/healthz").status_code == 200  # of another address
    wait_until(gateway, lambda found: value(found, "chatproxy_refused_total", reason="too_many_connections") == 1)


def test_a_trusted_proxy_has_no_limit_of_its_own(
    start_gateway: Callable[..., Gateway], opened: Callable[..., Wire]
) -> None:
    gateway = start_gateway(MAX_CONNECTIONS="30", MAX_CONNECTIONS_PER_ADDRESS="5", TRUSTED_PROXIES="127.0.0.2/31")
    proxy = [opened(gateway, "127.0.0.3") for _ in range(25)]

    assert all(map(still_answers, proxy))


def test_no_descriptor_left_is_survived(start_gateway: Callable[..., Gateway], opened: Callable[..., Wire]) -> None:
    """Whatever uses up the file descriptors, open connections go on, and new ones are served once some are free."""
    gateway = start_gateway()
    (pid,) = gateway.worker_pids
    caller = opened(gateway)
    caller.send(json_call("/v1/chat/completions", CALL))
    assert caller.read_answer().status == 200
    allowed = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    none_left = next(number for number in range(len(used) + 1) if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (none_left, allowed[1]))
    try:
        shed = [opened(gateway) for _ in range(5)]
        for wire in shed:
            assert is_closed(wire)  # nobody waits in a queue, and no loop spins
        assert still_answers(caller)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)
    caller.send(json_call("/v1/chat/completions", CALL))
    answer = caller.read_answer()
    assert answer.status == 200, answer.body
    assert still_answers(opened(gateway))
    wait_until_ok(gateway)


def test_few_open_files_mean_fewer_calls_at_once(
    simulator: Simulator, gateway_database: str, tmp_path: Path, opened: Callable[..., Wire]
) -> None:
    """Each of many calls at once is served or gets 503 with words, and what was served is in the ledger."""
    files = 256
    command = run_with_few_files(files)
    with run_gateway(
        simulator.base_url, gateway_database, tmp_path, Path.cwd(), command, TRUSTED_PROXIES="127.0.0.1"
    ) as gateway:
        gateway.wait_for_log(f"need .* open files, and {files} are allowed")
        answers: list[Future[WireAnswer]] = []
        with ThreadPoolExecutor(100) as pool:
            for _ in range(100):  # in turns: a new connection may close one on which no request has come
                call = opened(gateway)
                call.send(json_call("/v1/chat/completions", GATED))
                answers.append(pool.submit(call.read_answer))
                wait_until_true(lambda: simulator.waiting + sum(answer.done() for answer in answers) == len(answers))
            simulator.release()
        served = [answer.result() for answer in answers if answer.result().status == 200]
        refused = [answer.result() for answer in answers if answer.result().status != 200]
        assert {(answer.status, answer.error["code"]) for answer in refused} == {(503, "overloaded")}
        assert len(served) >= files // 8
        for answer in served:
            assert gateway.row(answer.headers["x-proxy-request-id"])["outcome"] == "success"
        assert gateway.post("/openai", CALL).status_code == 200
        assert "Traceback" not in gateway.log, gateway.log


@pytest.mark.parametrize("files", [64, 128])
def test_too_few_open_files_are_one_line(
    simulator: Simulator, gateway_database: str, tmp_path: Path, files: int
) -> None:
    command = run_with_few_files(files)
    gateway = launch_gateway(simulator.base_url, gateway_database, tmp_path, Path.cwd(), command)
    assert gateway.process.wait(PATIENCE) == 1
    gateway.stop()
    words = f"chatproxy: {files} open files are allowed, and at least 256 are needed; raise `ulimit -n`\n"
    assert gateway.log.endswith(words)
