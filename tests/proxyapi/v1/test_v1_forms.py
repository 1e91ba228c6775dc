"""Forms of `/v1` on their way up: they pass as they come, and what stops one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import Wire, connect, head, in_chunks
from tests.support.calls.v1_calls import ask, assert_refused, the_row
from tests.support.inputs.varied_forms import FILE, MODEL, SOUND, WHISPER, write
from tests.support.servers.gateway import SECURITY_KEY, Gateway

KIB = 1024
MIB = 1024 * KIB
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
FORM = "Content-Type: multipart/form-data; boundary=the-boundary"
CHUNKED = "Transfer-Encoding: chunked"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
FILE_HEAD = write([FILE]).partition(SOUND)[0]


def test_a_form_has_its_row(gateway: Gateway, simulator: Simulator) -> None:
    form = write([FILE, MODEL, (b'form-data; name="stream"', b"true"), (b'form-data; name="prompt"', b"be kind")])
    answer = gateway.http.post(
        TRANSCRIPTIONS, content=form, headers=BEARER | {"content-type": "multipart/form-data; boundary=the-boundary"}
    )

    assert answer.status_code == 200
    assert answer.content.endswith(b"\n\n")
    row = gateway.row(answer)
    assert (row["route"], row["outcome"], row["status"]) == (TRANSCRIPTIONS, "success", 200)
    assert (row["request_model"], row["stream"]) == ("gpt-4o-mini-transcribe", True)
    assert row["request_bytes"] == len(form)
    assert row["response_bytes"] == len(answer.content)
    assert row["usage_source"] == "exact"
    assert row["output_tokens"] > 0


def start_upload(wire: Wire, *lines: str, length: int | None = None, parts: bytes = FILE_HEAD) -> None:
    """The head of a request, and of a form with a file in it."""
    wire.send(head("POST", TRANSCRIPTIONS, FORM, *lines, *([CHUNKED] if length is None else []), length=length))
    wire.send(in_chunks(parts).removesuffix(b"0\r\n\r\n") if length is None else parts)


def test_a_form_is_on_its_way_before_it_is_here(gateway: Gateway, simulator: Simulator) -> None:
    form = write([FILE, MODEL])
    with connect(gateway) as wire:
        start_upload(wire, length=len(form), parts=form[:500])
        wire.send(form[500:-1])
        simulator.wait_until(lambda: simulator.in_flight == 1)
        assert simulator.requests == []  # its end is still here
        wire.send(form[-1:])

        assert wire.read_answer().status == 200
    assert simulator.last.body == form
    assert simulator.last.header("content-length") == str(len(form))


def resident(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * KIB


def test_a_form_is_never_in_memory_whole(open_gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    [pid] = open_gateway.worker_pids
    open_gateway.http.get("/v1/models", headers=BEARER)
    piece, count = b"\xff" * MIB, 200
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted anew
    before = resident(pid, "VmRSS")
    with connect(open_gateway) as wire:
        start_upload(wire, "X-Simulator-Fault: discard+status-418", f"X-Request-Id: {call_id}")
        for _ in range(count):
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        end = write([FILE, WHISPER]).partition(SOUND)[2]
        wire.send(in_chunks(end))
        assert wire.read_answer().status == 418
    peak = resident(pid, "VmHWM")

    assert simulator.last.discarded == len(FILE_HEAD) + count * MIB + len(end)
    assert peak - before < 16 * MIB
    row = the_row(open_gateway, call_id)
    assert row["request_bytes"] == simulator.last.discarded
    assert row["request_model"] == "whisper-1"  # which came last


def test_a_form_too_large_never_ends_upstream(strict_gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(strict_gateway) as wire:
        start_upload(wire, f"X-Request-Id: {call_id}")
        wire.send(b"%x\r\n%b\r\n" % (10 * KIB, bytes(10 * KIB)))
        simulator.wait_until(lambda: simulator.in_flight == 1)
        for _ in range(20):
            wire.send(b"%x\r\n%b\r\n" % (64 * KIB, bytes(64 * KIB)))
        wire.send(in_chunks(write([WHISPER])))
        answer = wire.read_answer()

    assert_refused(answer, 413, "body_too_large")
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert [request.outcome for request in simulator.requests] == ["disconnected"]
    row = the_row(strict_gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 413, "body_too_large")


def test_a_form_too_large_by_its_length_is_not_asked_for(
    strict_gateway: Gateway, simulator: Simulator, call_id: str
) -> None:
    answer = ask(
        strict_gateway,
        head("POST", TRANSCRIPTIONS, FORM, "Expect: 100-continue", f"X-Request-Id: {call_id}", length=10**9),
    )

    assert_refused(answer, 413, "body_too_large")
    assert the_row(strict_gateway, call_id)["outcome"] == "rejected"
    assert simulator.in_flight == 0
    assert simulator.requests == []


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_caller_that_leaves_takes_its_form_along(
    gateway: Gateway, simulator: Simulator, call_id: str, framing: str
) -> None:
    with connect(gateway) as wire:
        start_upload(wire, f"X-Request-Id: {call_id}", length=10_000_000 if framing == "length" else None)
        wire.send(bytes(100_000) if framing == "length" else in_chunks(bytes(100_000)).removesuffix(b"0\r\n\r\n"))
        simulator.wait_until(lambda: simulator.in_flight == 1)

    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert [request.outcome for request in simulator.requests] == ["disconnected"]
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["route"]) == ("client_cancelled", None, TRANSCRIPTIONS)


def test_a_form_that_stops_coming_is_408(strict_gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(strict_gateway) as wire:
        start_upload(wire, f"X-Request-Id: {call_id}", length=50_000)
        answer = wire.read_answer()

    assert_refused(answer, 408, "request_timeout")
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert [request.outcome for request in simulator.requests] == ["disconnected"]
    row = the_row(strict_gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 408, "request_timeout")


def test_upstreams_early_refusal_passes(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    """Before the form is here; then nobody has to send the rest."""
    with connect(gateway) as wire:
        start_upload(wire, f"X-Request-Id: {call_id}", "X-Simulator-Fault: early+status-429", length=10_000_000)
        wire.send(bytes(100_000))
        answer = wire.read_answer()

    assert answer.status == 429
    assert answer.error["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after-ms"] == "1000"
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"]) == ("upstream_error", 429)
    gateway.http.get("/v1/models", headers=BEARER).raise_for_status()  # and the next call has a connection of its own


def test_upstream_may_go_away_from_a_form(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(gateway) as wire:
        start_upload(wire, f"X-Request-Id: {call_id}", "X-Simulator-Fault: early+cut", length=10_000_000)
        wire.send(bytes(100_000))
        answer = wire.read_answer()

    assert_refused(answer, 502, "upstream_unreachable", "upstream_error")
    assert the_row(gateway, call_id)["outcome"] == "unreachable"
