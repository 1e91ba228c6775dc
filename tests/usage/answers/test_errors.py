"""Errors of every shape leave a code and words, so that they can be told apart and grouped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.growth import wait_until_linear
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from usage.answers.errors import MAX_MESSAGE_CHARACTERS, MAX_TEXT_BYTES, error_in_body, status_phrase

NGINX = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>"
NGINX += b"\r\n<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n"
PAGE = b"<!DOCTYPE html><style>p{}</style><script>alert(1)</script><title>Oh</title><p>No   &amp;\n such</p>"
SHAPES: dict[str, tuple[int, Any, dict[str, str]]] = {
    "OpenAI": (
        401,
        {"error": {"message": "Bad key", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}},
        {"type": "invalid_request_error", "code": "invalid_api_key", "message": "Bad key"},
    ),
    "Azure": (404, {"error": {"code": "DeploymentNotFound", "message": "No"}}, {"code": "DeploymentNotFound"}),
    "APIM": (429, {"statusCode": 429, "message": "Rate limit is exceeded."}, {"message": "Rate limit is exceeded."}),
    "Ollama": (404, {"error": "model 'x' not found"}, {"code": "http_404", "message": "model 'x' not found"}),
    "FastAPI": (404, {"detail": "Not Found"}, {"code": "http_404", "message": "Not Found"}),
    "FastAPI, findings": (
        422,
        {"detail": [{"loc": ["body", "model"], "msg": "Field required", "type": "missing"}]},
        {"code": "http_422", "message": "body.model: Field required"},
    ),
    "FastAPI, an object": (400, {"detail": {"error": "No", "code": 7}}, {"code": "7", "message": "No"}),
    "vLLM": (
        400,
        {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
        {"type": "BadRequestError", "code": "400", "message": "too long"},
    ),
    "message": (409, {"message": "It runs already."}, {"code": "http_409", "message": "It runs already."}),
    "Gemini": (
        429,
        [{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}],
        {"code": "429", "message": "Quota"},
    ),
    "Anthropic": (
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"type": "overloaded_error", "message": "Overloaded"},
    ),
    "Bedrock": (400, {"__type": "ValidationException", "Message": "No"}, {"code": "ValidationException"}),
    "Cloudflare": (
        401,
        {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "messages": []},
        {"code": "10000", "message": "Authentication error"},
    ),
    "OAuth": (
        401,
        {"error": "invalid_token", "error_description": "It expired."},
        {"code": "invalid_token", "message": "It expired."},
    ),
    "RFC 9457": (403, {"type": "about:blank", "title": "No", "detail": "Not you"}, {"message": "Not you"}),
    "Hugging Face": (422, {"error": "Input", "error_type": "validation"}, {"type": "validation", "message": "Input"}),
    "a JSON text": (500, "it broke", {"code": "http_500", "message": "it broke"}),
    "nothing in it": (503, {}, {"code": "http_503", "message": "Service Unavailable"}),
    "empty error": (500, {"error": {}}, {"code": "http_500", "message": "Internal Server Error"}),
    "true": (500, {"error": {"type": True, "code": True, "message": "No"}}, {"type": "", "code": "http_500"}),
    "null": (500, {"error": None}, {"code": "http_500", "message": "Internal Server Error"}),
    "a page": (502, NGINX, {"code": "http_502", "message": "502 Bad Gateway · nginx/1.25.3"}),
    "a page with a script": (500, PAGE, {"message": "Oh · No & such"}),
    "text": (408, b"upstream request timeout", {"code": "http_408", "message": "upstream request timeout"}),
    "empty": (529, b"", {"code": "http_529", "message": "Site Is Overloaded"}),
    "half of JSON": (500, b'{"error": {"message": "it bro', {"message": '{"error": {"message": "it bro'}),
    "not UTF-8": (500, b"\xff\xfe", {"code": "http_500", "message": "��"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_its_words(shape: str) -> None:
    status, body, expected = SHAPES[shape]
    facts = error_in_body(body if isinstance(body, bytes) else json.dumps(body).encode(), status)
    assert facts.items() >= expected.items()
    assert facts["message"]
    assert facts["code"] or facts["type"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"error": {"message": "No", "param": "model"}}, "model"),
        ({"error": {"message": "No", "param": "tools[0].type"}}, "tools[0].type"),
        ({"object": "error", "message": "No", "param": "n", "code": 400}, "n"),
        ([{"error": {"message": "No"}, "param": "n"}], "n"),
        ({"error": {"message": "No", "param": None}}, None),
        ({"error": {"message": "No", "param": 7}}, None),
        ({"error": {"message": "No", "param": "words of a prompt"}}, None),
        ({"error": {"message": "No", "param": "x" * 101}}, None),
        ({"error": "No"}, None),
    ],
)
def test_the_parameter_that_was_refused(body: object, parameter: str | None) -> None:
    assert error_in_body(json.dumps(body).encode(), 400).get("param") == parameter


@given(
    st.integers(300, 999),
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode()),
)
def test_anything_has_words_and_a_code(status: int, body: bytes) -> None:
    facts = error_in_body(body, status)
    assert all(isinstance(value, str) for value in facts.values())
    assert facts["message"]
    assert facts["type"] or facts["code"]


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 10_000_000,
        b"<" * 10_000_000,
        b"<!--" * 2_000_000,
        b"[" * 1_000_000,
        b'{"error":' * 100_000,
        b"<a " * 10**6,
    ],
    ids=["text", "brackets", "comments", "lists", "objects", "tags"],
)
def test_a_large_one_is_read_in_part(body: bytes) -> None:
    assert len(error_in_body(body, 500)["message"]) <= MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize("tag", [b"<a ", b'<a b="', b"<a b=", b"</a ", b"<!a ", b"<?a ", b"<!--"])
def test_tags_without_an_end_take_no_more_time_than_their_length(tag: bytes) -> None:
    def run(length: int) -> None:
        assert error_in_body(tag * (length // len(tag)), 500)["message"]

    wait_until_linear(run, MAX_TEXT_BYTES // 4)


def test_a_tag_that_is_cut_off_is_no_text() -> None:
    assert error_in_body(b"<html><body>Bad day<p class=", 500)["message"] == "Bad day"


def test_statuses_have_words() -> None:
    assert [status_phrase(status) for status in (408, 409, 529, 799)] == [
        "Request Timeout",
        "Conflict",
        "Site Is Overloaded",
        "Status 799",
    ]


class Upstream(BaseHTTPRequestHandler):
    """Answers with the error of the shape that the call names as its model."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, body, _ = SHAPES[asked["model"]]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("content-type", "text/html" if data.startswith(b"<") else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def gateway(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1"
            with run_gateway(url, gateway_database, tmp_path_factory.mktemp("words")) as gateway:
                yield gateway
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("path", "stream"),
    [("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/openai", False), ("/openai2", True)],
)
@pytest.mark.parametrize("shape", ["Ollama", "FastAPI", "vLLM", "Gemini", "a page", "text", "empty"])
def test_the_row_says_it_and_the_answer_passes_unchanged(shape: str, path: str, stream: bool, gateway: Gateway) -> None:
    status, body, expected = SHAPES[shape]
    asked = {"model": shape, "input": "hi", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    headers = {"authorization": f"Bearer {SECURITY_KEY}"}
    answer = gateway.http.post(path, headers=headers, json=asked)

    assert answer.status_code == status
    assert answer.content == (body if isinstance(body, bytes) else json.dumps(body).encode())
    row = gateway.row(answer)
    assert row["outcome"] == "upstream_error"
    assert {name: row[f"error_{name}"] for name in expected} == expected
    assert row["error_message"]
