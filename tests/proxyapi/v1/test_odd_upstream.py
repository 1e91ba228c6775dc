"""An upstream that breaks HTTP's rules: the caller gets an answer, and the ledger says what the caller saw."""

from __future__ import annotations

import gzip
import re
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head, json_call
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway, run_gateway

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {"model": "gpt-4o", "input": "hi", "stream": True}


class RawUpstream(socketserver.ThreadingTCPServer):
    """Answers every request with the bytes in `answer`, and closes; if it `is_early`, when its head is here."""

    answer = b""
    is_early = False
    allow_reuse_address = True
    daemon_threads = True


class Raw(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert isinstance(self.server, RawUpstream)
        if self.server.is_early:
            self.wfile.write(self.server.answer)
            self.rfile.read()
        else:
            self.rfile.read(length)
            self.wfile.write(self.server.answer)


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream(("127.0.0.1", 0), Raw) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def odd(upstream: RawUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    url = f"http://127.0.0.1:{upstream.server_address[1]}/v1"
    with run_gateway(url, gateway_database, tmp_path_factory.mktemp("odd")) as gateway:
        yield gateway


def answer(status: bytes, headers: bytes = b"", body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %b\r\n%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def test_a_header_that_is_none_is_left_out(odd: Gateway, upstream: RawUpstream) -> None:
    upstream.answer = answer(b"200 OK", b"openai-version: caf\xc3\xa9\r\nx-ratelimit-limit-requests: 5\r\n")

    seen = odd.post("/openai", CALL)

    assert seen.status_code == 200
    assert "openai-version" not in seen.headers
    assert seen.headers["x-ratelimit-limit-requests"] == "5"
    assert odd.row(seen)["outcome"] == "success"


@pytest.mark.parametrize("status", [b"600 What", b"999 No"])
def test_a_status_that_is_none_is_502(odd: Gateway, upstream: RawUpstream, status: bytes) -> None:
    upstream.answer = answer(status)

    seen = odd.post("/openai", CALL)

    assert seen.status_code == 502
    assert "may have been billed" in seen.json()["error"]["message"]
    row = odd.row(seen)
    assert (row["status"], row["outcome"]) == (502, "unreachable")


def test_an_error_that_calls_itself_a_stream_is_an_error(odd: Gateway, upstream: RawUpstream) -> None:
    upstream.answer = answer(b"500 Oops", b"content-type: text/event-stream\r\n", b'data: {"error": {}}\n\n')

    seen = odd.post("/openai2", STREAM)

    assert (seen.status_code, seen.content) == (500, b'data: {"error": {}}\n\n')
    assert odd.row(seen)["outcome"] == "upstream_error"


def test_a_stream_without_its_last_blank_line_still_ends_with_done(odd: Gateway, upstream: RawUpstream) -> None:
    upstream.answer = answer(b"200 OK", b"content-type: Text/Event-Stream\r\n", b'data: {"type":"x"}')

    assert odd.post("/openai2", STREAM).content == b'data: {"type":"x"}\n\ndata: [DONE]\n\n'


def test_a_nul_in_the_usage_costs_no_row(odd: Gateway, upstream: RawUpstream) -> None:
    upstream.answer = answer(b"200 OK", b"", b'{"usage": {"prompt_tokens": 3, "note": "a\\u0000b"}}')

    row = odd.row(odd.post("/openai", CALL))

    assert (row["input_tokens"], row["usage"]["note"]) == (3, "a\ufffdb")


EARLY = b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {"type":"x"}\n\n'
FORM_HEAD = ("POST", "/v1/audio/transcriptions", "Content-Type: multipart/form-data; boundary=x")


@pytest.fixture
def early(upstream: RawUpstream) -> Iterator[None]:
    upstream.answer, upstream.is_early = EARLY, True
    yield
    upstream.is_early = False


@pytest.mark.usefixtures("early")
def test_a_caller_may_leave_while_its_form_goes_up_and_an_answer_comes_down(odd: Gateway) -> None:
    with connect(odd) as wire:
        wire.send(head(*FORM_HEAD, length=1000) + b"--x\r\n")
        request_id = wire.read_head().headers["x-proxy-request-id"]
        assert next(wire.read_chunks()) == b'data: {"type":"x"}\n\n'

    assert odd.row(request_id)["outcome"] == "client_cancelled"
    assert "Exception in ASGI" not in odd.log


@pytest.mark.usefixtures("early")
def test_a_form_that_is_refused_ends_an_answer_that_came_too_early(odd: Gateway) -> None:
    key = odd.make_key("early", "--model", "gpt-*")
    with connect(odd) as wire:
        form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
        wire.send(head(*FORM_HEAD, length=len(form), key=key) + form[:5])
        request_id = wire.read_head().headers["x-proxy-request-id"]
        wire.send(form[5:])
        received = wire.read_to_end()

    assert b'"code": "model_not_allowed"' in received
    assert not received.endswith(b"0\r\n\r\n")
    row = odd.row(request_id)
    assert (row["status"], row["outcome"], row["error_code"]) == (200, "rejected", "model_not_allowed")
    assert "Exception in ASGI" not in odd.log


def test_a_caller_of_http_1_0_gets_a_stream_without_chunks(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/openai2", STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        wire.connection.settimeout(PATIENCE)
        received = b""
        while piece := wire.connection.recv(65536):
            received += piece
    top, _, body = received.partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in top.lower()
    assert body.startswith(b"event: response.created\n")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("status", [b"000 No", b"099 No"])
@pytest.mark.parametrize("path", ["/openai", "/v1/chat/completions"])
def test_a_status_of_nothing_does_not_hang_the_call(
    odd: Gateway, upstream: RawUpstream, path: str, status: bytes
) -> None:
    upstream.answer = answer(status)

    seen = odd.post(path, CALL, headers={"Authorization": f"Bearer {SECURITY_KEY}"})

    assert (seen.status_code, seen.json()["error"]["code"]) == (502, "upstream_unreachable")
    assert f"the status {status[:3].decode()}" in seen.json()["error"]["message"]
    assert odd.row(seen)["outcome"] == "unreachable"


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_without_end_is_not_read_to_memory(
    odd: Gateway, upstream: RawUpstream, method: str, announced: bool
) -> None:
    """By its length, or by what a few bytes become; upstream is asked once."""
    if announced:
        upstream.answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999999999999\r\n\r\n{"
    else:
        bomb = gzip.compress(bytes(1024 * 1024), 1) * 300
        upstream.answer = answer(b"200 OK", b"content-type: application/json\r\ncontent-encoding: gzip\r\n", bomb)
    path = "/v1/models" if method == "GET" else "/v1/chat/completions"

    headers = {"Authorization": f"Bearer {SECURITY_KEY}"}
    seen = odd.http.request(method, path, headers=headers, json=CALL if method == "POST" else None)

    assert (seen.status_code, seen.json()["error"]["code"]) == (502, "upstream_answer_too_large")
    row = odd.row(seen)
    assert (row["status"], row["outcome"], row["error_code"]) == (502, "upstream_error", "upstream_answer_too_large")
    assert odd.get("/healthz").status_code == 200


def test_a_bomb_that_is_relayed_takes_no_memory(odd: Gateway, upstream: RawUpstream) -> None:
    """A file of 100 MiB, out of some hundred kilobytes; the caller gets all of it."""
    bomb = gzip.compress(bytes(1024 * 1024)) * 100
    upstream.answer = answer(b"200 OK", b"content-type: audio/mpeg\r\ncontent-encoding: gzip\r\n", bomb)
    (pid,) = odd.worker_pids
    highest, size = peak_bytes(pid), 0
    call = {"model": "tts-1", "input": "hi", "voice": "alloy"}
    headers = {"Authorization": f"Bearer {SECURITY_KEY}"}
    with odd.http.stream("POST", "/v1/audio/speech", json=call, headers=headers) as seen:
        for piece in seen.iter_raw():
            size += len(piece)

    assert size == 100 * 1024 * 1024
    assert peak_bytes(pid) - highest < 20 * 1024 * 1024


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
