"""Requests that are odd, over a bare socket: what is HTTP is served, what is not is refused in OpenAI's shape."""

from __future__ import annotations

import json

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head, in_chunks, json_call
from tests.support.calls.refusals import CALL, PART, assert_refused
from tests.support.servers.gateway import SECURITY_KEY, Gateway


def test_a_chunked_body_needs_no_content_length(gateway: Gateway, simulator: Simulator) -> None:
    body = json.dumps(CALL).encode()
    with connect(gateway) as wire:
        wire.send(head("POST", "/openai", "Content-Type: application/json", "Transfer-Encoding: chunked"))
        wire.send(in_chunks(*(body[start : start + 7] for start in range(0, len(body), 7))))

        assert wire.read_answer().status == 200
    assert simulator.last.json == CALL


def test_a_chunked_form_needs_no_content_length(gateway: Gateway, simulator: Simulator) -> None:
    body = PART + b"\r\n--b--\r\n"
    with connect(gateway) as wire:
        wire.send(
            head(
                "POST",
                "/openai/audio/transcriptions",
                "Content-Type: multipart/form-data; boundary=b",
                "Transfer-Encoding: chunked",
            )
        )
        wire.send(in_chunks(*(body[start : start + 7] for start in range(0, len(body), 7))))

        assert wire.read_answer().status == 200
    assert simulator.last.files[0].data == b"sound"


def test_an_expected_continue_comes(gateway: Gateway) -> None:
    body = json.dumps(CALL).encode()
    with connect(gateway) as wire:
        wire.send(head("POST", "/openai", "Content-Type: application/json", "Expect: 100-continue", length=len(body)))
        assert wire.read_head().status == 100
        wire.send(body)

        assert wire.read_answer().status == 200


def test_two_pipelined_calls_get_two_answers_in_order(gateway: Gateway, simulator: Simulator) -> None:
    calls = [{**CALL, "messages": [{"role": "user", "content": f"number {number}"}]} for number in (1, 2)]
    with connect(gateway) as wire:
        wire.send(b"".join(json_call("/openai", call) for call in calls))
        answers = [wire.read_answer() for _ in calls]

    assert [answer.status for answer in answers] == [200, 200]
    texts = [json.loads(answer.body)["choices"][0]["message"]["content"] for answer in answers]
    assert ["number 1" in texts[0], "number 2" in texts[1]] == [True, True]
    assert [request.json for request in simulator.requests] == calls


def test_a_body_on_a_get_changes_nothing(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", "/openai2/resp_abc123", "Content-Type: application/json", length=2) + b"{}")

        assert wire.read_answer().status == 200
    assert simulator.last.body == b""


def test_an_absolute_uri_is_served_as_its_path_and_names_no_host(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("http://elsewhere.example/openai", CALL))

        assert wire.read_answer().status == 200
    assert simulator.last.path == "/v1/chat/completions"


def test_a_big_header_is_no_fault(gateway: Gateway) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", "/nothing", "X-Padding: " + "x" * 60_000))

        assert_refused(wire.read_answer(), 404, "invalid_request_error", "not_found")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", id="nul-in-the-path"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="nul-in-a-header"),
        pytest.param(b"POST /openai HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", id="negative-length"),
        pytest.param(b"POST /openai HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n", id="length-not-a-number"),
        pytest.param(
            b"POST /openai HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two-lengths",
        ),
        pytest.param(b"POST /openai HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", id="bad-chunk"),
        pytest.param(b"GET /openai2/r?note=\xc3\xb6 HTTP/1.1\r\nHost: a\r\n\r\n", id="raw-bytes-in-the-query"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), id="tls-hello"),
    ],
)
def test_what_is_not_http_is_400_and_the_end_of_the_connection(gateway: Gateway, request_bytes: bytes) -> None:
    with connect(gateway) as wire:
        wire.send(request_bytes)
        answer = wire.read_to_end()

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "bad_request")
    assert gateway.http.get("/healthz").status_code == 200


def test_an_asterisk_for_a_path_is_no_fault(gateway: Gateway) -> None:
    with connect(gateway) as wire:
        wire.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")

        assert wire.read_answer().status == 204


@pytest.mark.parametrize("piece", [b"X-Bomb: " + b"x" * 8000 + b"\r\n", b"x" * 8000], ids=["many", "one-without-end"])
def test_headers_without_end_are_refused(gateway: Gateway, piece: bytes) -> None:
    """A header bomb must not grow in memory for as long as its sender likes."""
    with connect(gateway) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Bomb: ")
        with pytest.raises(ConnectionError):
            wire.send(piece * 4096)  # 32 MiB


def test_a_strangers_large_body_is_not_parsed(gateway: Gateway) -> None:
    """Parsed, it would be `bad_json`; and 50 MB of it would hold up every call for seconds."""
    body = b'{"security_key": "wrong", "messages": [' + b"[]," * 100_000

    answer = gateway.http.post("/openai", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "invalid_key"


@pytest.mark.parametrize("place", ["body", "query", "header"])
def test_a_large_body_is_parsed_for_who_has_the_key(gateway: Gateway, place: str) -> None:
    start = b'{"security_key": "' + SECURITY_KEY.encode() + b'",' if place == "body" else b"{"
    answer = gateway.http.post(
        "/openai",
        content=start + b'"messages": [' + b"[]," * 30_000,
        headers={"Content-Type": "application/json", **({"X-Security-Key": SECURITY_KEY} if place == "header" else {})},
        params={"security_key": SECURITY_KEY} if place == "query" else {},
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_json"
