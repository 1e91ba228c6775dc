"""When upstream refuses, breaks or is not there: what the caller is told, and how often upstream is asked.

Over 300 lines, since each failure of upstream is tried on every route with the same simulated upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.content.errors import of_status
from tests.simulator.server import Simulator
from tests.simulator.wire.delivery import _HTML as PAGE
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, free_port, run_gateway

BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
SOUND = {"file": ("audio.mp3", b"\xff\xfb\x90\x00" * 100, "audio/mpeg")}
BODIES: dict[str, dict[str, Any]] = {
    "/openai": {"json": {"model": "gpt-4o-mini", **CHAT}},
    "/openai2": {"json": {"model": "gpt-4o", "input": "hi"}},
    "/openai2/compact": {"json": {"model": "gpt-4o", "input": "hi"}},
    "/openai2/input_tokens": {"json": {"model": "gpt-4o", "input": "hi"}},
    "/chatgpt": {"json": {"prompt": "hi"}},
    "/embeddings": {"json": {"input": "hi"}},
    "/openai/audio/transcriptions": {"files": SOUND},
    "/openai2/resp_abc123/cancel": {},
    "/v1/chat/completions": {"json": {"model": "gpt-4o-mini", **CHAT}},
    "/v1/responses": {"json": {"model": "gpt-4o", "input": "hi"}},
    "/v1/conversations": {"json": {}},
    "/v1/embeddings": {"json": {"model": "text-embedding-3-small", "input": "hi"}},
    "/v1/moderations": {"json": {"input": "hi"}},
    "/v1/images/generations": {"json": {"model": "gpt-image-1", "prompt": "hi"}},
    "/v1/audio/speech": {"json": {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hi"}},
    "/v1/audio/transcriptions": {"files": SOUND, "data": {"model": "whisper-1"}},
    "/v1/responses/resp_abc123/cancel": {},
}
CHATS = ["/openai", "/v1/chat/completions"]
CREATES = [("POST", path) for path in BODIES]
REPEATABLE = [
    (method, f"{api}/resp_abc123{suffix}")
    for api in ("/openai2", "/v1/responses")
    for method, suffix in (("GET", ""), ("GET", "/input_items"), ("DELETE", ""))
]
STATUSES = [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 418, 529]


def call(gateway: Gateway, method: str, path: str) -> Any:
    return gateway.http.request(method, path, headers=BEARER, **BODIES.get(path, {}))


def chat(gateway: Gateway, path: str, model: str) -> Any:
    return gateway.http.post(path, headers=BEARER, json={"model": model, **CHAT})


def upstreams_body(status: int) -> bytes:
    return orjson.dumps(of_status(status).body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@pytest.fixture(scope="module")
def lonely(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server whose upstream is a closed port."""
    upstream = f"http://127.0.0.1:{free_port()}/v1"
    with run_gateway(upstream, gateway_database, tmp_path_factory.mktemp("lonely")) as gateway:
        yield gateway


@pytest.mark.parametrize("path", CHATS)
def test_it_works(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = chat(gateway, path, "gpt-nope")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    message = "The model `gpt-nope` does not exist or you do not have access to it."
    assert answer.json() == {
        "error": {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    }
    row = gateway.row(answer)
    assert (row["outcome"], row["status"]) == ("upstream_error", 404)
    assert row["error_type"] == "invalid_request_error"
    assert row["error_code"] == "model_not_found"
    assert row["error_message"] == message
    assert row["error_param"] == "model"
    assert row["upstream_request_id"] == answer.headers["x-request-id"]
    assert row["usage_source"] == "unknown"


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("status", STATUSES)
def test_an_error_passes_untouched(gateway: Gateway, simulator: Simulator, status: int, path: str) -> None:
    answer = chat(gateway, path, f"fault:status-{status}")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == upstreams_body(status)
    assert len(simulator.requests) == 1
    row = gateway.row(answer)
    told = answer.json()["error"]
    assert (row["outcome"], row["status"]) == ("upstream_error", status)
    assert (row["error_type"], row["error_code"]) == (told["type"] or "", told["code"] or "")
    assert row["error_message"] == told["message"]
    assert row["response_bytes"] == len(answer.content)


@pytest.mark.parametrize(("method", "path"), [*CREATES, *REPEATABLE])
def test_an_error_passes_on_every_route_and_is_not_tried_again(
    gateway: Gateway, simulator: Simulator, method: str, path: str
) -> None:
    simulator.fail_next("status-503")
    answer = call(gateway, method, path)

    assert answer.status_code == 503
    assert answer.content == upstreams_body(503)
    assert len(simulator.requests) == 1
    assert gateway.row(answer)["outcome"] == "upstream_error"


@pytest.mark.parametrize("path", CHATS)
def test_a_rate_limit_says_when_to_come_back(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = chat(gateway, path, "fault:status-429")

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["retry-after-ms"] == "1000"
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers["x-ratelimit-limit-requests"] == "10000"
    assert gateway.row(answer)["error_code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_an_error_is_the_sdks_own_type(
    gateway: Gateway, simulator: Simulator, status: int, kind: type[openai.APIStatusError]
) -> None:
    with gateway.sdk() as client, pytest.raises(kind) as raised:
        client.post("/openai", cast_to=ChatCompletion, body={"model": f"fault:status-{status}", **CHAT})
    error = of_status(status).body["error"]
    assert raised.value.body == error
    assert raised.value.code == error["code"]
    assert raised.value.request_id is not None
    assert raised.value.request_id.startswith("req_")


def test_the_sdks_own_retries_work_through_us(gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("status-500", times=1)
    with gateway.sdk(max_retries=1) as client:
        body = {"model": "gpt-4o-mini", **CHAT}
        assert client.post("/openai", cast_to=ChatCompletion, body=body).choices

    assert [request.status for request in simulator.requests] == [500, 200]


@pytest.mark.parametrize(("method", "path"), [*CREATES, *REPEATABLE])
def test_a_load_balancers_page_passes(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    simulator.fail_next("html")
    answer = call(gateway, method, path)

    assert answer.status_code == 502
    assert answer.headers["content-type"] == "text/html"
    assert answer.content == PAGE
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("upstream_error", 502, "http_502")


@pytest.mark.parametrize(("method", "path"), [*CREATES, *REPEATABLE])
def test_a_redirect_is_not_followed(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    simulator.fail_next("redirect")
    answer = call(gateway, method, path)

    assert answer.status_code == 307
    assert answer.headers["location"] == "/v1/redirected"  # upstream's own place would have the caller's key, too
    assert len(simulator.requests) == 1
    assert gateway.row(answer)["outcome"] == "upstream_error"


@pytest.mark.parametrize("path", CHATS)
def test_an_answer_that_breaks_off_in_its_json_passes(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = chat(gateway, path, "fault:bad-json")

    assert answer.status_code == 200
    assert answer.content.endswith(b'"mess')
    row = gateway.row(answer)
    assert (row["status"], row["usage"], row["usage_source"]) == (200, None, "estimated")


# --- connections that break


def assert_may_have_been_billed(gateway: Gateway, answer: Any, code: str) -> None:
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("upstream_error", code, None)
    assert "may have been billed" in error["message"]
    assert error["request_id"] == answer.headers["x-proxy-request-id"]
    row = gateway.row(answer)
    assert (row["outcome"], row["status"]) == ("unreachable", 502)
    assert (row["error_type"], row["error_code"], row["error_message"]) == ("upstream_error", code, error["message"])


@pytest.mark.parametrize(("method", "path"), CREATES)
def test_a_call_that_creates_is_sent_once(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    simulator.fail_next("cut")
    answer = call(gateway, method, path)

    assert_may_have_been_billed(gateway, answer, "upstream_unreachable")
    assert len(simulator.requests) == 1


# Sound is relayed as it comes: its caller sees a cut connection (test_v1).
@pytest.mark.parametrize(("method", "path"), [create for create in CREATES if create[1] != "/v1/audio/speech"])
def test_half_an_answer_is_not_passed_off_as_one(
    gateway: Gateway, simulator: Simulator, method: str, path: str
) -> None:
    simulator.fail_next("cut-body")
    answer = call(gateway, method, path)

    assert_may_have_been_billed(gateway, answer, "upstream_disconnected")
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("path", CHATS)
def test_half_an_error_is_not_passed_off_as_one(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = chat(gateway, path, "fault:cut-body+status-500")

    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "upstream_error"
    assert "may have been billed" in answer.json()["error"]["message"]
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize(("method", "path"), REPEATABLE)
def test_what_can_be_repeated_is_tried_three_times(
    gateway: Gateway, simulator: Simulator, method: str, path: str, cuts: int
) -> None:
    simulator.fail_next("cut", times=cuts)
    answer = call(gateway, method, path)

    assert answer.status_code == 200
    assert [request.method for request in simulator.requests] == [method] * (cuts + 1)
    assert len({(request.path, request.query, request.body) for request in simulator.requests}) == 1
    rows = gateway.rows("WHERE request_id = %s", [answer.headers["x-proxy-request-id"]], at_least=1)
    assert [row["outcome"] for row in rows] == ["success"]


@pytest.mark.parametrize(("method", "path"), REPEATABLE)
def test_after_the_third_time_it_is_given_up(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    simulator.fail_next("cut", times=3)
    answer = call(gateway, method, path)

    assert_may_have_been_billed(gateway, answer, "upstream_unreachable")
    assert len(simulator.requests) == 3


@pytest.mark.parametrize("path", CHATS)
def test_after_a_cut_the_next_call_works(gateway: Gateway, simulator: Simulator, path: str) -> None:
    simulator.fail_next("cut")
    assert chat(gateway, path, "gpt-4o-mini").status_code == 502
    assert chat(gateway, path, "gpt-4o-mini").status_code == 200


# --- no upstream at all


@pytest.mark.parametrize(("method", "path"), [*CREATES, *REPEATABLE])
def test_an_upstream_that_is_not_there_bills_nothing(lonely: Gateway, method: str, path: str) -> None:
    answer = call(lonely, method, path)

    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_unreachable")
    assert "was not billed" in error["message"]
    assert "may have" not in error["message"]
    row = lonely.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 502, "upstream_unreachable")
    assert row["upstream_request_id"] == ""


def test_an_upstream_that_is_not_there_is_the_sdks_server_error(lonely: Gateway) -> None:
    with lonely.sdk() as client, pytest.raises(openai.InternalServerError, match="was not billed") as raised:
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    assert raised.value.code == "upstream_unreachable"
    assert raised.value.type == "upstream_error"


@pytest.mark.parametrize("page", ["/health", "/health2"])
def test_health_says_that_upstream_is_not_there(lonely: Gateway, page: str) -> None:
    answer = lonely.http.get(page, params={"access_token": ACCESS_TOKEN})

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize("page", ["/", "/healthz", "/readyz"])
def test_the_server_itself_is_well_without_an_upstream(lonely: Gateway, page: str) -> None:
    assert lonely.http.get(page).status_code == 200


def test_nothing_of_the_fault_itself_reaches_the_caller(lonely: Gateway) -> None:
    answer = call(lonely, "POST", "/openai")

    assert "127.0.0.1" not in answer.text
    assert "Traceback" not in answer.text
