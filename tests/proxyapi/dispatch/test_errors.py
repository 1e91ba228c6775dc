"""Every error of ours: OpenAI's shape, the documented status, type and code, for whatever a caller sends.

Over 300 lines, since it is a table with every error and the request that causes it.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head, in_chunks, json_call
from tests.support.calls.refusals import BEARER, CALL, FILE, MESSAGES, assert_refused
from tests.support.polling import repeat_until
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, free_port, run_gateway

JSON = {**BEARER, "content-type": "application/json"}
KIB = 1024


@pytest.fixture(scope="module")
def small_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Takes two calls at once, 64 KiB of body and 4 KiB of file, and has no upstream key."""
    limits = {"MAX_PARALLEL_REQUESTS": "2", "MAX_BODY_BYTES": "65536", "MAX_UPLOAD_BYTES": "4096", "OPENAI_API_KEY": ""}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("small"), **limits) as gateway:
        yield gateway


# 400: what is not a JSON object


@pytest.mark.parametrize("path", ["/openai", "/openai2", "/chatgpt", "/embeddings"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut-off"),
        pytest.param(b"{'model': 1}", id="single-quotes"),
        pytest.param(b'{"model": "a"} {}', id="two-values"),
        pytest.param(b"[" * 100_000, id="100000-levels-open"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100000-levels-closed"),
        pytest.param(b'{"n": ' + b"9" * 5000 + b"}", id="5000-digit-number"),
        pytest.param(b'{"n": 1e400}', id="number-out-of-range"),
        pytest.param(b'{"n": NaN}', id="nan"),
        pytest.param(b'{"n": -Infinity}', id="infinity"),
        pytest.param(b"[1, 2]", id="array"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model": "\xff\xfe"}', id="invalid-utf-8"),
        pytest.param(b'{"model": "a\x00b"}', id="raw-nul"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_400(
    gateway: Gateway, simulator: Simulator, path: str, body: bytes
) -> None:
    answer = gateway.http.post(path, content=body, headers=JSON)

    assert_refused(answer, 400, "invalid_request_error", "bad_json")
    assert simulator.requests == []


def test_a_bad_body_is_not_quoted_in_the_error(gateway: Gateway) -> None:
    answer = gateway.http.post("/openai", content=b'{"secret": "sk-very-\xff-private"}', headers=JSON)

    assert "private" not in assert_refused(answer, 400, "invalid_request_error", "bad_json")["message"]


# 400: fields


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/openai", {"messages": MESSAGES}, "model"),
        ("/openai", {"model": None, "messages": MESSAGES}, "model"),
        ("/openai", {"model": "gpt-4o-mini"}, "messages"),
        ("/openai2", {"input": "hi"}, "model"),
        ("/openai2", {"model": "gpt-4o-mini"}, "input"),
        ("/chatgpt", {}, "prompt"),
        ("/embeddings", {}, "input"),
    ],
)
def test_a_missing_field_is_named(gateway: Gateway, path: str, body: dict[str, Any], param: str) -> None:
    error = assert_refused(gateway.post(path, body), 400, "invalid_request_error", "missing_required_parameter", param)

    assert param in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/openai", {**CALL, "model": 5}, "invalid_type", "model"),
        ("/openai", {**CALL, "model": ""}, "invalid_type", "model"),
        ("/openai", {**CALL, "messages": "hi"}, "invalid_type", "messages"),
        ("/openai", {**CALL, "messages": []}, "invalid_type", "messages"),
        ("/openai", {**CALL, "image": "cat.png"}, "bad_request", "image"),
        ("/openai", {**CALL, "image": {"base64": 7}}, "bad_request", "image"),
        ("/openai", {**CALL, "stream": True}, "stream_not_supported", "stream"),
        ("/chatgpt", {"prompt": "hi", "stream": True}, "stream_not_supported", "stream"),
        ("/openai2", {"model": "gpt-4o-mini", "input": "hi", "stream": "yes"}, "invalid_type", "stream"),
        ("/openai2", {"model": "gpt-4o-mini", "input": 7}, "invalid_type", "input"),
        ("/chatgpt", {"prompt": ["hi"]}, "invalid_type", "prompt"),
        ("/chatgpt", {"prompt": "hi", "temperature": 2.1}, "invalid_value", "temperature"),
        ("/chatgpt", {"prompt": "hi", "temperature": "hot"}, "invalid_value", "temperature"),
        ("/chatgpt", {"prompt": "hi", "top_p": True}, "invalid_value", "top_p"),
        ("/chatgpt", {"prompt": "hi", "max_tokens": 0}, "invalid_value", "max_tokens"),
        ("/chatgpt", {"prompt": "hi", "max_completion_tokens": 1.5}, "invalid_value", "max_completion_tokens"),
        ("/embeddings", {"input": {"a": 1}}, "invalid_type", "input"),
        ("/openai", {**CALL, "openai_api_key": "sk\r\nX-Evil: 1"}, "bad_request", "openai_api_key"),
        ("/openai", {**CALL, "project": ["p"]}, "bad_request", "project"),
        ("/openai", {**CALL, "organization": "münchen"}, "bad_request", "organization"),
    ],
)
def test_a_wrong_field_is_named(gateway: Gateway, path: str, body: dict[str, Any], code: str, param: str) -> None:
    assert_refused(gateway.post(path, body), 400, "invalid_request_error", code, param)


@pytest.mark.parametrize("timeout", [0, -1, "soon", "NaN", True, [], {}, [1000], "-5"])
def test_a_bad_timeout_is_named(gateway: Gateway, simulator: Simulator, timeout: Any) -> None:
    answer = gateway.post("/openai", {**CALL, "timeout": timeout})

    assert_refused(answer, 400, "invalid_request_error", "bad_request", "timeout")
    assert simulator.requests == []


@pytest.mark.parametrize("timeout", ["0", "soon", "nan"])
def test_a_bad_timeout_in_the_query_or_the_form_is_named(gateway: Gateway, timeout: str) -> None:
    path = "/openai/audio/transcriptions"
    in_query = gateway.get("/openai2/resp_abc123", timeout=timeout)
    in_form = gateway.http.post(path, headers=BEARER, data={"timeout": timeout}, files={"file": FILE})

    for answer in (in_query, in_form):
        assert_refused(answer, 400, "invalid_request_error", "bad_request", "timeout")


def test_a_query_of_2000_fields_is_400(gateway: Gateway) -> None:
    answer = gateway.http.get("/openai2/resp_abc123?" + "a=1&" * 2000, headers=BEARER)

    assert_refused(answer, 400, "invalid_request_error", "bad_request")


# 403


@pytest.mark.parametrize("key", [None, "", "wrong", 5, [SECURITY_KEY], {"a": 1}, "\ud800", "ключ"])
def test_a_wrong_key_is_the_same_403(gateway: Gateway, simulator: Simulator, key: Any) -> None:
    body = json.dumps({**CALL, "security_key": key})
    answer = gateway.http.post("/openai", content=body, headers={"content-type": "application/json"})

    error = assert_refused(answer, 403, "authentication_error", "invalid_key")
    assert error["message"] == "Missing or invalid key."
    assert simulator.requests == []


# 404, 405


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/openai/", "/openai/nothing", "/openai2/a/b", "/openai2/..%2fmodels", "/a%0Ab", "/%00", "/%ff%fe",
     "//openai", "/docs-nothing", "/administrator", "/staticky", "/openapi.jsonx"],
)  # fmt: skip
def test_an_unknown_path_is_404(gateway: Gateway, path: str) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", path))
        answer = wire.read_answer()

    if path == "/openai/":  # a slash at the end is forgiven
        assert_refused(answer, 405, "invalid_request_error", "method_not_allowed")
    else:
        assert_refused(answer, 404, "invalid_request_error", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/openai", {"POST", "OPTIONS"}),
        ("PUT", "/openai2", {"POST", "OPTIONS"}),
        ("PATCH", "/openai2/resp_1", {"GET", "DELETE", "OPTIONS"}),
        ("GET", "/openai2/resp_1/cancel", {"POST", "OPTIONS"}),
        ("POST", "/openai2/resp_1/input_items", {"GET", "OPTIONS"}),
        ("DELETE", "/healthz", {"GET", "OPTIONS"}),
        ("PROPFIND", "/chatgpt", {"POST", "OPTIONS"}),
        ("TRACE", "/embeddings", {"POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    gateway: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    answer = gateway.http.request(method, path, headers=BEARER)

    assert_refused(answer, 405, "invalid_request_error", "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed


# 413


def test_a_body_too_large_by_its_length_is_413_before_it_is_sent(small_gateway: Gateway) -> None:
    with connect(small_gateway) as wire:
        wire.send(head("POST", "/openai", "Content-Type: application/json", length=64 * KIB + 1))

        assert_refused(wire.read_answer(), 413, "invalid_request_error", "body_too_large")


def test_a_body_too_large_is_not_asked_for(small_gateway: Gateway) -> None:
    with connect(small_gateway) as wire:
        wire.send(head("POST", "/openai", "Expect: 100-continue", "Content-Type: application/json", length=10**9))

        assert wire.read_head().status == 413


def test_a_chunked_body_is_413_before_it_is_whole(small_gateway: Gateway) -> None:
    with connect(small_gateway) as wire:
        wire.send(head("POST", "/openai", "Content-Type: application/json", "Transfer-Encoding: chunked"))
        wire.send(in_chunks(b" " * (64 * KIB + 1)).removesuffix(b"0\r\n\r\n"))

        assert_refused(wire.read_answer(), 413, "invalid_request_error", "body_too_large")


def test_a_client_that_goes_on_sending_can_still_read_the_413(small_gateway: Gateway) -> None:
    size = 8 * 1024 * KIB
    with connect(small_gateway) as wire:
        wire.send(head("POST", "/openai", "Content-Type: application/json", length=size))
        for _ in range(128):
            wire.send(b" " * (size // 128))

        assert_refused(wire.read_answer(), 413, "invalid_request_error", "body_too_large")


def test_a_file_too_large_is_413(small_gateway: Gateway) -> None:
    files = {"file": ("speech.mp3", bytes(4097), "audio/mpeg")}
    answer = small_gateway.http.post("/openai/audio/transcriptions", headers=BEARER, files=files)

    assert_refused(answer, 413, "invalid_request_error", "body_too_large", "file")


def test_a_form_too_large_is_413(small_gateway: Gateway) -> None:
    files = {"file": ("speech.mp3", bytes(2 * 1024 * KIB), "audio/mpeg")}
    answer = small_gateway.http.post("/openai/audio/transcriptions", headers=BEARER, files=files)

    assert_refused(answer, 413, "invalid_request_error", "body_too_large")


# 429


def test_a_page_asked_twice_in_ten_seconds_is_429(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    first, second = (gateway.http.get("/debug/runtime", params={"access_token": ACCESS_TOKEN}) for _ in range(2))

    assert first.status_code == 200
    assert_refused(second, 429, "rate_limit_error", "rate_limited")
    assert 1 <= int(second.headers["retry-after"]) <= 10


# 502, 504


def test_upstream_not_there_is_502_and_not_billed(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    answer = gateway.post("/openai", CALL)

    error = assert_refused(answer, 502, "upstream_error", "upstream_unreachable")
    assert "not billed" in error["message"]
    assert (gateway.row(answer)["outcome"], gateway.row(answer)["status"]) == ("unreachable", 502)


def test_upstream_hanging_up_is_502_and_may_be_billed(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai", {**CALL, "model": "fault:cut"})

    error = assert_refused(answer, 502, "upstream_error", "upstream_unreachable")
    assert "may have been billed" in error["message"]
    assert len(simulator.requests) == 1


def test_upstream_silent_is_504_and_may_be_billed(gateway: Gateway, simulator: Simulator) -> None:
    call = {**CALL, "model": "fault:hang", "timeout": 300}
    answer = repeat_until(lambda: simulator.requests, lambda: gateway.post("/openai", call))

    error = assert_refused(answer, 504, "upstream_error", "upstream_timeout")
    assert "may have been billed" in error["message"]
    simulator.wait_until(lambda: simulator.in_flight == 0)


# 503


def test_a_call_beyond_the_parallel_limit_is_503(small_gateway: Gateway, simulator: Simulator) -> None:
    call = {**CALL, "openai_api_key": "sk-of-the-caller"}
    simulator.hold()
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(small_gateway.post, "/openai", call) for _ in range(2)]
        simulator.wait_until(lambda: simulator.waiting == 2)
        refused = small_gateway.post("/openai", call)
        simulator.release()

        assert_refused(refused, 503, "server_error", "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert [one.result().status_code for one in held] == [200, 200]


def test_no_upstream_key_is_503(small_gateway: Gateway, simulator: Simulator) -> None:
    answer = small_gateway.post("/openai", CALL)

    error = assert_refused(answer, 503, "server_error", "upstream_key_missing")
    assert int(answer.headers["retry-after"]) > 0
    assert "openai_api_key" in error["message"]
    assert simulator.requests == []


def test_a_call_that_becomes_whole_while_draining_is_served(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway()
    call = json_call("/openai", CALL)
    with connect(gateway) as wire:
        wire.send(call[:-10])
        gateway.http.get("/healthz").raise_for_status()  # one loop: the half call has been read by now
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_log("draining")
        wire.send(call[-10:])
        answer = wire.read_answer()

    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert len(simulator.requests) == 1


# The official SDK knows our errors by their types.


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/openai", {"messages": MESSAGES}, 400, openai.BadRequestError),
        ("/nothing", CALL, 404, openai.NotFoundError),
        ("/openai", {**CALL, "model": "fault:cut"}, 502, openai.InternalServerError),
        ("/openai", {**CALL, "model": "fault:hang", "timeout": 200}, 504, openai.InternalServerError),
    ],
)
def test_the_sdk_raises_its_typed_errors_for_ours(
    gateway: Gateway, path: str, body: dict[str, Any], status: int, error: type[openai.APIStatusError]
) -> None:
    with gateway.sdk() as client, pytest.raises(error) as caught:
        client.post(path, cast_to=ChatCompletion, body=body)

    assert caught.value.status_code == status
    assert caught.value.type
    assert caught.value.code
    assert caught.value.body
    assert caught.value.body["request_id"]  # type: ignore[index]  # the SDK types it as object


def test_the_sdk_raises_permission_denied_for_a_wrong_key(gateway: Gateway) -> None:
    with gateway.sdk().with_options(api_key="wrong") as client, pytest.raises(openai.PermissionDeniedError) as caught:
        client.post("/openai", cast_to=ChatCompletion, body=CALL)

    assert caught.value.code == "invalid_key"
