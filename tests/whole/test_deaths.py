"""The six deaths of a call: each leaves one row, no upstream connection and a free place.

The caller goes before the head, between chunks or while the server is blocked in sending to it; upstream answers with
an error, or is cut; and the normal end. Each for plain calls, streams and uploads.

Over 300 lines, since each death is tried for plain calls, streams and uploads with the same upstream and the same
checks.
"""

from __future__ import annotations

import json
import socket
import struct
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import Stream
from openai.types.responses import ResponseErrorEvent, ResponseStreamEvent

from tests.simulator.server import Simulator
from tests.simulator.wire.recording import ReceivedRequest
from tests.support.callers.wire import Wire, WireAnswer, connect, head, json_call
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

MESSAGES = [{"role": "user", "content": "hi"}]
TRANSCRIPTIONS = "/openai/audio/transcriptions"
EVENT: Any = ResponseStreamEvent  # a union of types; the SDK's own code passes it so
HASTY = 4  # seconds


@pytest.fixture(scope="module")
def single(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One call at a time: a place that a dead call keeps is a 503 for the next one."""
    limits = {"MAX_PARALLEL_REQUESTS": "1", "REQUEST_TIMEOUT": "600"}  # longer than a test waits for an end
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("single"), **limits) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def hasty(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One call at a time, of four seconds."""
    limits = {"MAX_PARALLEL_REQUESTS": "1", "REQUEST_TIMEOUT": str(HASTY)}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("hasty"), **limits) as gateway:
        yield gateway


@pytest.fixture
def call_id() -> str:
    """The caller's own id, by which the row of a call is found that had no answer."""
    return f"death-{uuid.uuid4()}"


def plain(call_id: str, fault: str, path: str = "/openai") -> bytes:
    return json_call(path, {"model": f"fault:{fault}", "messages": MESSAGES}, f"X-Request-Id: {call_id}")


def streamed(call_id: str, fault: str, path: str = "/openai2") -> bytes:
    return json_call(path, {"model": f"fault:{fault}", "input": "hi", "stream": True}, f"X-Request-Id: {call_id}")


def retrieved(call_id: str, fault: str, path: str = "/openai2") -> bytes:
    return head("GET", f"{path}/resp_fault-{fault}", f"X-Request-Id: {call_id}")


def upload(call_id: str, fault: str, stream: str = "false", path: str = TRANSCRIPTIONS) -> bytes:
    fields = {"model": f"fault:{fault}", "stream": stream}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields]
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nsound\r\n--b--\r\n'
    body = "".join([*parts, file]).encode()
    headers = (f"X-Request-Id: {call_id}", "Content-Type: multipart/form-data; boundary=b")
    return head("POST", path, *headers, length=len(body)) + body


def streamed_upload(call_id: str, fault: str) -> bytes:
    return upload(call_id, fault, stream="true")


# The same on `/v1`.


def v1_plain(call_id: str, fault: str) -> bytes:
    return plain(call_id, fault, "/v1/chat/completions")


def v1_streamed(call_id: str, fault: str) -> bytes:
    return streamed(call_id, fault, "/v1/responses")


def v1_streamed_chat(call_id: str, fault: str) -> bytes:
    call = {"model": f"fault:{fault}", "messages": MESSAGES, "stream": True}
    return json_call("/v1/chat/completions", call, f"X-Request-Id: {call_id}")


def v1_retrieved(call_id: str, fault: str) -> bytes:
    return retrieved(call_id, fault, "/v1/responses")


def v1_upload(call_id: str, fault: str) -> bytes:
    return upload(call_id, fault, path="/v1/audio/transcriptions")


def v1_streamed_upload(call_id: str, fault: str) -> bytes:
    return upload(call_id, fault, "true", "/v1/audio/transcriptions")


CREATES = [plain, upload, v1_plain, v1_upload]
READS = [retrieved, v1_retrieved]
WHOLE = [*CREATES, *READS]
RESPONSES = [streamed, v1_streamed]
STREAMS = [*RESPONSES, streamed_upload, v1_streamed_upload, v1_streamed_chat]
# The text's bytes. A transcript is streamed word by word, which makes fifteen times as many of them; a response
# says its text three times, a chat once.
MORE_THAN_BUFFERS_HOLD = {
    **dict.fromkeys(RESPONSES, "huge-8000000"),
    **dict.fromkeys((streamed_upload, v1_streamed_upload), "huge-1000000"),
    v1_streamed_chat: "huge-24000000",
}


def the_row(gateway: Gateway, simulator: Simulator, call_id: str) -> dict[str, Any]:
    """The one row of a call, after upstream was let go and while the next call already has its place and its row."""
    simulator.wait_until(lambda: simulator.in_flight == 0)
    where = "WHERE incoming_request_id = %s"
    gateway.rows(where, [call_id], at_least=1)
    following = gateway.post("/openai", {"model": "gpt-4o-mini", "messages": MESSAGES})
    assert following.status_code == 200, following.text
    gateway.row(following)
    rows = gateway.rows(where, [call_id])
    assert len(rows) == 1
    return rows[0]


def leave(wire: Wire, manner: str) -> None:
    """Closes the caller's end: politely, or with a reset."""
    if manner == "reset":
        wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.connection.close()


def has_sent_more(request: ReceivedRequest, than: int) -> bool:
    return request.events_sent > than


def wait_until_blocked(simulator: Simulator) -> None:
    """Waits until upstream can send no more: every buffer on the way to the caller is full."""
    request = simulator.last
    while True:
        try:
            simulator.wait_until(partial(has_sent_more, request, request.events_sent), timeout=0.5)
        except TimeoutError:
            assert request.outcome == "pending", "the caller was sent everything: it isn't blocked"
            return


# 1. The caller goes before the head.


@pytest.mark.parametrize("manner", ["close", "reset"])
@pytest.mark.parametrize("call", [*WHOLE, *STREAMS])
def test_a_caller_gone_before_the_head(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, manner: str
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "gate"))
        simulator.wait_until(lambda: simulator.waiting == 1)
        leave(wire, manner)

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("client_cancelled", None, "")
    assert simulator.requests[0].outcome == "disconnected"


@pytest.mark.parametrize("fault", ["hang", "slow-30"])
@pytest.mark.parametrize("call", CREATES)
def test_a_caller_gone_frees_an_upstream_that_would_never_answer(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, fault: str
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, fault))
        simulator.wait_until(lambda: simulator.in_flight == 1)

    assert the_row(single, simulator, call_id)["outcome"] == "client_cancelled"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("call", CREATES)
def test_a_caller_gone_with_another_call_pipelined(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, later: bool
) -> None:
    with connect(single) as wire:
        following = call("never-begun", "gate")
        wire.send(call(call_id, "gate") + (b"" if later else following))
        simulator.wait_until(lambda: simulator.waiting == 1)
        wire.send(following if later else b"")

    assert the_row(single, simulator, call_id)["outcome"] == "client_cancelled"
    assert len(simulator.requests) == 2  # it, and the one after: who has gone is not served


def test_a_caller_gone_while_a_body_comes(single: Gateway, simulator: Simulator, call_id: str) -> None:
    """Upstream's head is here, its body is not whole: nothing of it has left for the caller."""
    with connect(single) as wire:
        wire.send(plain(call_id, "huge-4000000+split-20"))
        simulator.wait_until(lambda: simulator.requests and simulator.last.status is not None)

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"]) == ("client_cancelled", None)


def test_a_caller_gone_in_the_middle_of_a_short_form_has_a_row_and_upstream_hears_nothing(
    single: Gateway, simulator: Simulator, call_id: str
) -> None:
    call = upload(call_id, "gate").replace(b"Content-Type", b"Expect: 100-continue\r\nContent-Type", 1)
    with connect(single) as wire:
        wire.send(call[:-20])
        assert wire.read_head().status == 100

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"]) == ("client_cancelled", None)
    assert row["cost"] == 0
    assert len(simulator.requests) == 1  # the following one
    assert len(simulator.requests) == 1


# 2. The caller goes between chunks.


@pytest.mark.parametrize("manner", ["close", "reset"])
@pytest.mark.parametrize("call", STREAMS)
def test_a_caller_gone_between_chunks(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, manner: str
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "events-20+gate-stream"))
        assert wire.read_head().status == 200
        simulator.wait_until(lambda: simulator.waiting == 1)
        next(wire.read_chunks())
        leave(wire, manner)

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("client_cancelled", 200, "")
    assert row["response_bytes"] > 0
    assert simulator.requests[0].outcome == "disconnected"


def test_a_caller_that_has_the_last_event_has_had_it_all(single: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(single) as wire:
        wire.send(streamed(call_id, "events-3"))
        wire.read_head()
        for chunk in wire.read_chunks():
            if b"event: response.completed" in chunk:
                break

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"]) == ("success", 200)
    assert row["output_tokens"] == 3


# 3. The caller goes while the server is blocked in sending to it.


@pytest.mark.parametrize("manner", ["close", "reset"])
@pytest.mark.parametrize("call", STREAMS)
def test_a_caller_gone_inside_a_blocked_send(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, manner: str
) -> None:
    with connect(single, receive_buffer=4096) as wire:
        wire.send(call(call_id, MORE_THAN_BUFFERS_HOLD[call]))
        simulator.wait_until(lambda: bool(simulator.requests) and simulator.last.events_sent > 0)
        wait_until_blocked(simulator)
        leave(wire, manner)

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"]) == ("client_cancelled", 200)
    assert simulator.requests[0].outcome == "disconnected"


@pytest.mark.parametrize("call", STREAMS)
def test_a_caller_that_never_reads_is_ended_by_the_timeout(
    hasty: Gateway, simulator: Simulator, call_id: str, call: Any
) -> None:
    with connect(hasty, receive_buffer=4096) as wire:
        wire.send(call(call_id, MORE_THAN_BUFFERS_HOLD[call]))
        simulator.wait_until(lambda: bool(simulator.requests) and simulator.last.events_sent > 0)
        assert is_held_by_server(wire)
        simulator.wait_until(lambda: simulator.in_flight == 0)
        row = the_row(hasty, simulator, call_id)

        # A timeout, when the limit came while an event was not whole and so nothing was to be sent.
        assert (row["outcome"] in {"client_cancelled", "timeout"}, row["status"]) == (True, 200)
        assert not is_held_by_server(wire)  # though the caller still does not read


def is_held_by_server(wire: Wire) -> bool:
    """Whether a process still has the other end open: the kernel may go on alone, with the rest to deliver."""
    ends = [f"0100007F:{port:04X}" for _, port in (wire.connection.getpeername(), wire.connection.getsockname())]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(fields[1:3] == ends and fields[9] != "0" for fields in lines)


# 4. Upstream answers with an error.


@pytest.mark.parametrize(("fault", "status"), [("status-500", 500), ("status-429", 429), ("status-401", 401)])
@pytest.mark.parametrize("call", [*WHOLE, *STREAMS])
def test_an_error_of_upstream(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, fault: str, status: int
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, fault))
        answer = wire.read_answer()

    row = the_row(single, simulator, call_id)
    assert answer.status == status
    assert (row["outcome"], row["status"]) == ("upstream_error", status)
    assert row["error_code"] == (answer.error["code"] or "")
    assert row["error_message"] == answer.error["message"]
    assert len(simulator.requests) == 2  # one, and the one after it: nothing was sent twice


@pytest.mark.parametrize("call", WHOLE)
def test_an_html_error_of_upstream(single: Gateway, simulator: Simulator, call_id: str, call: Any) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "html"))
        answer = wire.read_answer()

    assert answer.status == 502
    assert answer.headers["content-type"] == "text/html"
    assert answer.body.startswith(b"<html>")
    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("upstream_error", 502, "http_502")


# 5. Upstream is cut.


@pytest.mark.parametrize("call", [*CREATES, *STREAMS])
def test_upstream_cut_before_the_head(single: Gateway, simulator: Simulator, call_id: str, call: Any) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "cut"))
        answer = wire.read_answer()

    row = the_row(single, simulator, call_id)
    assert answer.status == 502
    assert answer.error["code"] == "upstream_unreachable"
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 502, "upstream_unreachable")
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("call", READS)
def test_a_get_is_tried_three_times_and_has_one_row(
    single: Gateway, simulator: Simulator, call_id: str, call: Any
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "cut"))
        assert wire.read_answer().status == 502

    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"]) == ("unreachable", 502)
    assert len(simulator.requests) == 4


@pytest.mark.parametrize("call", WHOLE)
def test_upstream_cut_in_the_middle_of_a_body(single: Gateway, simulator: Simulator, call_id: str, call: Any) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "cut-body"))
        answer = wire.read_answer()

    row = the_row(single, simulator, call_id)
    assert answer.status == 502
    assert answer.error["code"] == "upstream_disconnected"
    assert "may have been billed" in answer.error["message"]
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 502, "upstream_disconnected")


@pytest.mark.parametrize("fault", ["cut-stream-2", "cut-event-2", "cut-stream-0", "cut-stream-3+split-5"])
@pytest.mark.parametrize("call", STREAMS)
def test_upstream_cut_in_the_middle_of_a_stream(
    single: Gateway, simulator: Simulator, call_id: str, call: Any, fault: str
) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, f"{fault}+events-20"))
        answer = wire.read_head()
        events, ended_well = read_cut_stream(wire, answer)

    assert answer.status == 200
    assert not ended_well
    assert len(events) == int(fault.split("-")[2].partition("+")[0]) + 1  # upstream's whole ones, and ours
    told = json.loads(events[-1].partition(b"data: ")[2])
    if call in RESPONSES:
        assert events[-1].startswith(b"event: error\n")
        error = ResponseErrorEvent.model_validate(told)
        assert error.sequence_number == len(events) - 1
        assert error.code == "upstream_disconnected"
    else:
        assert told["error"]["code"] == "upstream_disconnected"
        assert told["error"]["request_id"] == answer.headers["x-proxy-request-id"]
    row = the_row(single, simulator, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 200, "upstream_disconnected")


def read_cut_stream(wire: Wire, answer: WireAnswer) -> tuple[list[bytes], bool]:
    """The events that came, and whether the stream ended as a whole one does."""
    assert answer.headers["transfer-encoding"] == "chunked"
    body = b""
    try:
        for chunk in wire.read_chunks():
            body += chunk
    except (EOFError, ConnectionError):
        return body.split(b"\n\n")[:-1], False
    return body.split(b"\n\n")[:-1], True


def test_the_sdk_is_told_of_a_cut_and_does_not_take_it_for_the_end(single: Gateway, simulator: Simulator) -> None:
    events: list[ResponseStreamEvent] = []
    with single.sdk() as client:
        stream: Stream[ResponseStreamEvent] = client.post(
            "/openai2",
            cast_to=EVENT,
            body={"model": "fault:cut-stream-3", "input": "hi", "stream": True},
            stream=True,
            stream_cls=Stream[ResponseStreamEvent],
        )
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            events.extend(stream)

    assert len(events) == 4
    assert events[-1].type == "error"
    assert events[-1].code == "upstream_disconnected"


# 6. The normal end.


@pytest.mark.parametrize("call", [*CREATES, *STREAMS])
def test_the_normal_end(single: Gateway, simulator: Simulator, call_id: str, call: Any) -> None:
    with connect(single) as wire:
        wire.send(call(call_id, "events-5"))
        answer = wire.read_answer()

    row = the_row(single, simulator, call_id)
    assert answer.status == 200
    assert answer.body
    assert (row["outcome"], row["status"], row["error_code"]) == ("success", 200, "")
    assert row["usage_source"] == "exact"
    assert str(row["request_id"]) == answer.headers["x-proxy-request-id"]
    assert simulator.requests[0].outcome == "completed"


def test_upstream_cut_after_the_last_event_is_a_success(single: Gateway, simulator: Simulator) -> None:
    """All that counts was said; the caller gets its `[DONE]`."""
    body = {"security_key": SECURITY_KEY, "model": "fault:events-1+cut-stream-100", "input": "hi", "stream": True}
    answer = single.http.post("/openai2", json=body)

    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert single.row(answer)["outcome"] == "success"
