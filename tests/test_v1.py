"""`/v1`'s own rules: which routes are open, what is refused and how, forms on their way up, sound on its way down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxyapi import families
from tests.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway
from tests.simulator.server import Simulator
from tests.varied_forms import FILE, MODEL, SOUND, WHISPER, write
from tests.wire import Wire, WireAnswer, connect, head, in_chunks, json_call

KIB = 1024
MIB = 1024 * KIB
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SPEECH = {"model": "tts-1", "voice": "alloy", "input": "Hello there"}
FORM = "Content-Type: multipart/form-data; boundary=the-boundary"
CHUNKED = "Transfer-Encoding: chunked"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
FILE_HEAD = write([FILE]).partition(SOUND)[0]
CLOSED = [family for family in families.FAMILIES if not family.open_by_default]
SLOW_SECONDS = 3


@pytest.fixture(scope="module")
def open_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Every family open, and room for large files."""
    with run_gateway(
        _simulator.base_url,
        gateway_database,
        tmp_path_factory.mktemp("open"),
        V1_ROUTES="all",
        MAX_UPLOAD_BYTES=str(300 * MIB),
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def strict_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Little time, small files: with what a form has beside its file, 1 MiB and 64 KiB."""
    with run_gateway(
        _simulator.base_url,
        gateway_database,
        tmp_path_factory.mktemp("strict"),
        REQUEST_TIMEOUT=str(SLOW_SECONDS),
        MAX_UPLOAD_BYTES=str(64 * KIB),
        MAX_BODY_BYTES=str(64 * KIB),
    ) as gateway:
        yield gateway


def the_row(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The only row of a call, by the id that the caller gave it."""
    rows = gateway.rows("WHERE incoming_request_id = %s", [request_id], at_least=1)
    assert len(rows) == 1
    return rows[0]


@pytest.fixture
def call_id(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^\x21-\x7e]", "_", str(request.node.name))[-100:]


def assert_refused(answer: WireAnswer, status: int, code: str, request_type: str = "invalid_request_error") -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.error.keys() == {"message", "type", "param", "code", "request_id"}
    assert (answer.error["code"], answer.error["type"]) == (code, request_type)
    assert answer.error["request_id"] == answer.headers["x-proxy-request-id"]


def ask(gateway: Gateway, *sent: bytes) -> WireAnswer:
    with connect(gateway) as wire:
        for piece in sent:
            wire.send(piece)
        return wire.read_answer()


# Who may, and where to.


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/responses", "/v1/realtime?model=gpt-realtime", "/v1/anything"])
def test_a_websocket_is_refused_in_words(gateway: Gateway, simulator: Simulator, path: str, call_id: str) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    answer = ask(gateway, head("GET", path, *upgrade, f"X-Request-Id: {call_id}"))

    assert_refused(answer, 426, "websocket_not_supported")
    assert "over HTTP" in answer.error["message"]
    assert simulator.requests == []
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 426, "websocket_not_supported")


@pytest.mark.parametrize("family", CLOSED, ids=lambda family: family.name)
def test_a_closed_family_says_so(gateway: Gateway, simulator: Simulator, family: families.Family) -> None:
    for path in family.paths:
        answer = ask(gateway, head("GET", "/v1" + path.replace("{id}", "x_1")))

        assert_refused(answer, 404, "not_found")
        assert f"/v1/{family.name} is closed" in answer.error["message"]
        assert "V1_ROUTES" in answer.error["message"]
    assert simulator.requests == []


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/engines", "/v1/realtime/sessions", "/v1/admin/x", "/v1/x"])
def test_an_unknown_route_says_so(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = ask(gateway, json_call(path, CALL))

    assert_refused(answer, 404, "not_found")
    assert answer.error["message"] == f"Unknown endpoint: POST {path}"
    assert simulator.requests == []


@pytest.mark.parametrize("family", CLOSED, ids=lambda family: family.name)
def test_a_setting_opens_it(open_gateway: Gateway, simulator: Simulator, family: families.Family) -> None:
    """The simulator has no such object, and not all of these paths; that is for it to say."""
    answers = {}
    for path in family.paths:
        written = path.replace("{id}", "x_1") + "?limit=2&after=y"
        direct = httpx2.get(simulator.base_url + written, headers={"authorization": f"Bearer {UPSTREAM_KEY}"})
        answers[path] = open_gateway.http.get(f"/v1{written}", headers=BEARER)

        assert direct.status_code in {404, 405}
        assert (answers[path].status_code, answers[path].content) == (direct.status_code, direct.content)
        assert simulator.last.query == "limit=2&after=y"
    for path, answer in answers.items():
        row = open_gateway.row(answer)
        assert (row["route"], row["outcome"], row["status"]) == (f"/v1{path}", "upstream_error", answer.status_code)


def test_a_file_goes_to_an_opened_family(open_gateway: Gateway, simulator: Simulator) -> None:
    answer = open_gateway.http.post(
        "/v1/files",
        headers=BEARER,
        data={"purpose": "batch"},
        files={"file": ("a.jsonl", b"{}\n", "application/jsonl")},
    )

    assert (answer.status_code, answer.json()["object"]) == (200, "file")
    assert simulator.last.form == {"purpose": ["batch"]}
    assert simulator.last.files[0].data == b"{}\n"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Authorization: Bearer wrong"],
        ["Authorization: Bearer"],
        [f"Authorization: Basic {SECURITY_KEY}"],
        [f"X-Security-Key: {SECURITY_KEY}"],
        [f"Api-Key: {SECURITY_KEY}"],
        ["Authorization: Bearer wrong", f"Authorization: Bearer {SECURITY_KEY}"],
    ],
)
def test_a_strangers_body_is_not_read(gateway: Gateway, simulator: Simulator, lines: list[str], call_id: str) -> None:
    """Nobody says 100 to it, and 50 MB that never come are not waited for."""
    request = [
        "POST /v1/chat/completions?security_key=" + SECURITY_KEY,
        "Host: x",
        "Content-Type: application/json",
        "Expect: 100-continue",
        f"Content-Length: {50 * MIB}",
        f"X-Request-Id: {call_id}",
        *lines,
    ]
    answer = ask(gateway, "\r\n".join([request[0] + " HTTP/1.1", *request[1:], "", ""]).encode())

    assert_refused(answer, 401, "invalid_key", "authentication_error")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert SECURITY_KEY not in answer.body.decode()
    assert simulator.requests == []
    gateway.row(gateway.http.get("/v1/models", headers=BEARER))  # what came later is in the ledger
    assert gateway.rows("WHERE incoming_request_id = %s", [call_id]) == []


# What is no request to upstream.

BAD_BODIES = {
    "cut off": b'{"model": "gpt-4o-mini", "messages": [',
    "a BOM": b"\xef\xbb\xbf{}",
    "a list": b"[]",
    "a word": b'"hi"',
    "a number": b"1",
    "null": b"null",
    "two": b"{}{}",
    "a comma too many": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "a comment": b'{/**/"a":1}',
    "a name without quotes": b"{a:1}",
    "space only": b"  \n",
    "NUL": b"\0",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "5,000 digits": b'{"a":%b}' % (b"7" * 5000),
    "100,000 levels": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "10,001 members": json.dumps(dict.fromkeys(map(str, range(10_001)))).encode(),
    "a form without its type": write([MODEL, FILE]),
    "a query": b"model=gpt-4o-mini&messages=hi",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_what_is_no_json_object_is_refused(gateway: Gateway, simulator: Simulator, name: str, call_id: str) -> None:
    body = BAD_BODIES[name]
    lines = ["Content-Type: application/json", f"X-Request-Id: {call_id}"]
    answer = ask(gateway, head("POST", "/v1/chat/completions", *lines, length=len(body)) + body)

    assert_refused(answer, 400, "bad_json")
    assert simulator.requests == []
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, "bad_json")
    assert row["route"] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "json"]
)
def test_another_content_type_is_refused(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    body = json.dumps(CALL).encode()
    answer = ask(gateway, head("POST", "/v1/responses", f"Content-Type: {kind}", length=len(body)) + body)

    assert_refused(answer, 415, "unsupported_media_type")
    assert kind in answer.error["message"]
    assert simulator.requests == []


def test_a_body_too_large_is_refused_before_it_comes(strict_gateway: Gateway, simulator: Simulator) -> None:
    lines = ["Content-Type: application/json", "Expect: 100-continue"]
    answer = ask(strict_gateway, head("POST", "/v1/responses", *lines, length=64 * KIB + 1))

    assert_refused(answer, 413, "body_too_large")
    assert simulator.requests == []


def test_a_body_that_does_not_come_is_408(strict_gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    answer = ask(strict_gateway, json_call("/v1/responses", CALL, f"X-Request-Id: {call_id}")[:-5])

    assert_refused(answer, 408, "request_timeout")
    assert simulator.requests == []
    assert the_row(strict_gateway, call_id)["outcome"] == "rejected"


# Forms on their way up.


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


# Sound on its way down.


def test_sound_passes_as_it_comes(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    whole = httpx2.post(
        f"{simulator.base_url}/audio/speech", json=SPEECH, headers={"authorization": f"Bearer {UPSTREAM_KEY}"}
    ).content
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": "fault:gate-body"}, f"X-Request-Id: {call_id}"))
        answer = wire.read_head()
        assert answer.headers["content-length"] == str(len(whole))
        pieces = wire.read_pieces(len(whole))
        received = b""
        while len(received) < len(whole) // 2:
            received += next(pieces)
        simulator.release(waiting=1)
        received += b"".join(pieces)

    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert received == whole
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["response_bytes"]) == ("success", 200, len(whole))
    assert (row["route"], row["usage_source"]) == ("/v1/audio/speech", "unknown")


@pytest.mark.parametrize("fault", ["cut-body", "cut-body+split-50"])
def test_sound_that_breaks_off_is_no_whole_sound(
    gateway: Gateway, simulator: Simulator, call_id: str, fault: str
) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": f"fault:{fault}"}, f"X-Request-Id: {call_id}"))
        answer = wire.read_head()
        assert answer.status == 200
        with pytest.raises(EOFError):
            for _ in wire.read_pieces(int(answer.headers["content-length"])):
                pass

    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 200, "upstream_disconnected")
    assert row["response_bytes"] > 0


def test_a_caller_that_leaves_stops_the_sound(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": "fault:gate-body"}, f"X-Request-Id: {call_id}"))
        wire.read_head()
        next(wire.read_pieces(1))

    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"]) == ("client_cancelled", 200)
