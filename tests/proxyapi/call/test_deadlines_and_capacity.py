"""How long a call may take and how many there may be: `timeout`, `REQUEST_TIMEOUT`, `MAX_PARALLEL_REQUESTS`.

An answer that comes at all has come in time: upstream never answers such a call, and the client waits for less long
than the server's usual time.

Over 300 lines, since deadlines and slots are tried together: each must hold while the other is used up.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.metrics import scrape, value, wait_for_reports
from tests.support.callers.wire import connect, head, json_call
from tests.support.polling import repeat_until, wait_until
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

MESSAGES = [{"role": "user", "content": "hi"}]
CALL = {"model": "gpt-4o-mini", "messages": MESSAGES}
STREAM = {"model": "gpt-4o-mini", "input": "hi", "stream": True}
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
FILE = ("speech.mp3", b"sound", "audio/mpeg")
HASTY = 2  # seconds


@pytest.fixture(scope="module")
def hasty(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server whose calls may take two seconds."""
    with run_gateway(
        _simulator.base_url, gateway_database, tmp_path_factory.mktemp("hasty"), REQUEST_TIMEOUT=str(HASTY)
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def single(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server that takes one call at a time, of 64 KiB at most."""
    limits = {"MAX_PARALLEL_REQUESTS": "1", "MAX_BODY_BYTES": "65536"}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("single"), **limits) as gateway:
        yield gateway


def in_body(gateway: Gateway, milliseconds: int) -> httpx2.Response:
    return gateway.post("/openai", {**CALL, "model": "fault:hang", "timeout": milliseconds})


def in_body_as_text(gateway: Gateway, milliseconds: int) -> httpx2.Response:
    return gateway.post("/chatgpt", {"prompt": "hi", "model": "fault:hang", "timeout": str(milliseconds)})


def in_query(gateway: Gateway, milliseconds: int) -> httpx2.Response:
    return gateway.get("/openai2/resp_fault-hang", timeout=str(milliseconds))


def in_query_of_a_post(gateway: Gateway, milliseconds: int) -> httpx2.Response:
    return gateway.post(f"/embeddings?timeout={milliseconds}", {"input": "hi", "model": "fault:hang"})


def in_form(gateway: Gateway, milliseconds: int) -> httpx2.Response:
    fields = {"model": "fault:hang", "timeout": str(milliseconds)}
    return gateway.http.post("/openai/audio/transcriptions", headers=BEARER, data=fields, files={"file": FILE})


def time_out(
    gateway: Gateway, simulator: Simulator, call: Callable[[Gateway, int], httpx2.Response], milliseconds: int
) -> httpx2.Response:
    """Returns the answer to a call whose time was up after upstream had received its request.

    On a busy machine the time may be up before; then another call is made.
    """
    return repeat_until(lambda: simulator.requests, lambda: call(gateway, milliseconds))


PLACES = [in_body, in_body_as_text, in_query, in_query_of_a_post, in_form]


@pytest.mark.parametrize("call", PLACES)
def test_a_timeout_ends_the_call_in_its_time(
    gateway: Gateway, simulator: Simulator, call: Callable[[Gateway, int], httpx2.Response]
) -> None:
    answer = time_out(gateway, simulator, call, 400)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert "may have been billed" in answer.json()["error"]["message"]
    simulator.wait_until(lambda: simulator.in_flight == 0)
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("timeout", 504, "upstream_timeout")
    assert row["overhead_ms"] + row["upstream_ms"] >= 390
    assert row["upstream_ms"] > 0


@pytest.mark.parametrize("budget", [(), ("--budget-total", "100")], ids=["no budget", "budget"])
def test_a_callers_timeout_says_nothing_about_upstream(
    budget: tuple[str, ...], gateway: Gateway, simulator: Simulator
) -> None:
    """Else any caller could make the gateway report that upstream is not reached."""
    key = gateway.make_key(f"hurried {uuid4()}", *budget)
    assert gateway.post("/openai", CALL).status_code == 200
    simulator.hold()
    for milliseconds in (1, 300):
        body = {**CALL, "timeout": milliseconds}
        answer = gateway.http.post("/openai", json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 504
    simulator.release()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert gateway.row(answer)["outcome"] == "timeout"
    wait_for_reports(gateway)
    assert value(scrape(gateway), "chatproxy_upstream_up") == 1


@pytest.mark.parametrize("call", PLACES)
def test_a_timeout_is_not_forwarded(
    gateway: Gateway, simulator: Simulator, call: Callable[[Gateway, int], httpx2.Response]
) -> None:
    time_out(gateway, simulator, call, 200)

    assert "timeout" not in simulator.last.query
    assert b"timeout" not in simulator.last.body


@pytest.mark.parametrize("call", PLACES)
def test_a_timeout_is_at_most_the_servers(
    hasty: Gateway, simulator: Simulator, call: Callable[[Gateway, int], httpx2.Response]
) -> None:
    answer = call(hasty, 3_600_000)

    assert answer.status_code == 504


def test_without_a_timeout_the_servers_stands(hasty: Gateway, simulator: Simulator) -> None:
    began = time.monotonic()
    answer = hasty.post("/openai", {**CALL, "model": "fault:hang"})

    assert answer.status_code == 504
    assert time.monotonic() - began >= HASTY


@pytest.mark.parametrize("fault", ["drip+huge-100000+pace-0.01", "events-300+pace-0.1"])
def test_a_stream_that_drips_for_ever_is_ended(hasty: Gateway, simulator: Simulator, fault: str) -> None:
    began = time.monotonic()
    with connect(hasty) as wire:
        wire.send(json_call("/openai2", {**STREAM, "model": f"fault:{fault}"}))
        answer = wire.read_head()
        assert answer.status == 200, "the time was over before the stream began, and this connection stays open"
        rest = wire.read_to_end()
    took = time.monotonic() - began

    assert b"event: error\n" in rest
    assert b'"upstream_timeout"' in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert took >= HASTY
    simulator.wait_until(lambda: simulator.in_flight == 0)
    row = hasty.row(answer.headers["x-proxy-request-id"])
    assert (row["outcome"], row["status"], row["error_code"]) == ("timeout", 200, "upstream_timeout")


def test_a_body_that_drips_for_ever_is_ended(hasty: Gateway, simulator: Simulator) -> None:
    """Bytes keep coming, so only the total time can end it."""
    answer = hasty.post("/openai", {**CALL, "model": "fault:huge-30000000+split-20"})

    assert answer.status_code == 504
    simulator.wait_until(lambda: simulator.in_flight == 0)


def test_no_connection_to_upstream_in_five_seconds_is_504_and_not_billed(start_gateway: Callable[..., Gateway]) -> None:
    with ExitStack() as opened:
        deaf = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = deaf.getsockname()[1]
        for _ in range(4):  # who is not accepted fills the queue, and the kernel drops who comes next
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        gateway = start_gateway(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        began = time.monotonic()
        answer = gateway.post("/openai", CALL)

    assert answer.status_code == 504
    assert "not billed" in answer.json()["error"]["message"]
    assert time.monotonic() - began >= 5
    assert gateway.row(answer)["outcome"] == "timeout"


# A caller that is slow to send


def test_a_body_that_never_ends_is_408(hasty: Gateway) -> None:
    began = time.monotonic()
    with connect(hasty) as wire:
        wire.send(json_call("/openai", CALL)[:-10])
        answer = wire.read_answer()

    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"
    assert time.monotonic() - began >= HASTY


def test_a_slow_body_holds_up_nobody(gateway: Gateway, simulator: Simulator) -> None:
    call = json_call("/openai", CALL)
    with connect(gateway) as wire:
        for byte in range(len(call) - 1):
            wire.send(call[byte : byte + 1])
        assert gateway.post("/openai", CALL).status_code == 200
        assert len(simulator.requests) == 1
        wire.send(call[-1:])

        assert wire.read_answer().status == 200


# The parallel limit: whatever way a call ends, its place is free again.


def end_well(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", CALL).status_code == 200


def end_a_stream(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai2", STREAM).content.endswith(b"data: [DONE]\n\n")


def end_with_upstreams_error(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {**CALL, "model": "fault:status-500"}).status_code == 500


def end_with_a_refusal(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {}).status_code == 400


def end_with_a_wrong_key(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {**CALL, "security_key": "wrong"}).status_code == 403


def end_with_a_body_too_large(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {**CALL, "padding": "x" * 65536}).status_code == 413


def end_with_a_timeout(gateway: Gateway, simulator: Simulator) -> None:
    assert in_body(gateway, 200).status_code == 504


def end_with_a_cut(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {**CALL, "model": "fault:cut"}).status_code == 502


def end_with_a_stream_cut(gateway: Gateway, simulator: Simulator) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        gateway.post("/openai2", {**STREAM, "model": "fault:cut-stream-3"})


def leave_before_the_head(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/openai", {**CALL, "model": "fault:gate"}, "X-Request-Id: leaves"))
        simulator.wait_until(lambda: simulator.waiting == 1)
    gateway.rows("WHERE incoming_request_id = 'leaves'", at_least=1)


def leave_a_stream(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/openai2", {**STREAM, "model": "fault:gate-stream"}))
        request_id = wire.read_head().headers["x-proxy-request-id"]
    gateway.row(request_id)


def leave_in_the_middle_of_the_body(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/openai", CALL, "Expect: 100-continue")[:-10])
        assert wire.read_head().status == 100  # the server reads
        assert gateway.post("/openai", CALL).status_code == 200  # what is not all here yet takes no place
    wait_for_a_place(gateway)


def wait_for_a_place(gateway: Gateway) -> None:
    """Nothing outside tells that the server has noticed; so it is asked."""
    wait_until(lambda: gateway.post("/openai", CALL).status_code != 503)


@pytest.mark.parametrize(
    "end",
    [
        end_well,
        end_a_stream,
        end_with_upstreams_error,
        end_with_a_refusal,
        end_with_a_wrong_key,
        end_with_a_body_too_large,
        end_with_a_timeout,
        end_with_a_cut,
        end_with_a_stream_cut,
        leave_before_the_head,
        leave_a_stream,
        leave_in_the_middle_of_the_body,
    ],
)
def test_every_end_frees_its_place(
    single: Gateway, simulator: Simulator, end: Callable[[Gateway, Simulator], None]
) -> None:
    for _ in range(2):
        end(single, simulator)

    assert single.post("/openai", CALL).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/admin/login/"])
def test_pages_answer_while_there_is_no_place_for_calls(single: Gateway, simulator: Simulator, path: str) -> None:
    simulator.hold()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(single.post, "/openai", CALL)
        simulator.wait_until(lambda: simulator.waiting == 1)
        try:
            assert single.post("/openai", CALL).status_code == 503
            assert single.http.get(path).status_code == 200
        finally:
            simulator.release()

        assert held.result().status_code == 200


def test_a_place_is_taken_from_the_first_byte_of_a_stream_to_the_last(single: Gateway, simulator: Simulator) -> None:
    body: dict[str, Any] = {"security_key": SECURITY_KEY, **STREAM, "model": "fault:gate-stream"}
    with single.http.stream("POST", "/openai2", json=body) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        refused = single.post("/openai", CALL)
        simulator.release(waiting=1)
        rest = b"".join(pieces)

    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert rest.endswith(b"data: [DONE]\n\n")
    assert single.post("/openai", CALL).status_code == 200


def test_an_overload_is_told_before_the_body_is_sent(single: Gateway, simulator: Simulator) -> None:
    simulator.hold()
    with ThreadPoolExecutor(1) as pool, connect(single) as wire:
        held = pool.submit(single.post, "/openai", CALL)
        simulator.wait_until(lambda: simulator.waiting == 1)
        wire.send(head("POST", "/openai", "Content-Type: application/json", length=len(json.dumps(CALL))))
        try:
            assert wire.read_answer().error["code"] == "overloaded"
        finally:
            simulator.release()

        assert held.result().status_code == 200
