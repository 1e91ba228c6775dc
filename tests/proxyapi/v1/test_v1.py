"""`/v1`'s own rules: which routes are open, what is refused and how."""

from __future__ import annotations

import json

import httpx2
import pytest

from proxyapi import routes
from tests.simulator.server import Simulator
from tests.support.callers.wire import head, json_call
from tests.support.calls.v1_calls import ask, assert_refused, the_row
from tests.support.inputs.varied_forms import FILE, MODEL, write
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

KIB = 1024
MIB = 1024 * KIB
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
CLOSED = [family for family in routes.FAMILIES if not family.open_by_default]


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
def test_a_closed_family_says_so(gateway: Gateway, simulator: Simulator, family: routes.Family) -> None:
    for path in family.paths:
        answer = ask(gateway, head("GET", "/v1" + path.replace("{id}", "x_1")))

        assert_refused(answer, 404, "not_found")
        assert f"/v1/{family.name} is closed" in answer.error["message"]
        assert "V1_ROUTES" in answer.error["message"]
    assert simulator.requests == []


@pytest.mark.parametrize("path", ["/v1/engines", "/v1/engines/x/completion", "/v1/admin/x", "/v1/x"])
def test_an_unknown_route_says_so(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = ask(gateway, json_call(path, CALL))

    assert_refused(answer, 404, "not_found")
    assert answer.error["message"] == f"Unknown endpoint: POST {path}"
    assert simulator.requests == []


@pytest.mark.parametrize("family", CLOSED, ids=lambda family: family.name)
def test_a_setting_opens_it(open_gateway: Gateway, simulator: Simulator, family: routes.Family) -> None:
    """The simulator has no such object, and not all of these paths; that is for it to say."""
    answers = {}
    for path in family.paths:
        written = path.replace("{id}", "x_1") + "?limit=2&after=y"
        direct = httpx2.get(
            simulator.base_url + written, headers={"authorization": f"Bearer {UPSTREAM_KEY}"}, timeout=PATIENCE
        )
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
