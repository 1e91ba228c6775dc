"""What `POST /openai` refuses before upstream hears of it, in an error that names the field."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, Gateway

MODEL = "gpt-4o-mini"
URL = "https://example.com/image.png"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": ""}, "model", "invalid_type"),
        ({"model": 4}, "model", "invalid_type"),
        ({"model": True}, "model", "invalid_type"),
        ({"model": ["gpt-4o"]}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_type"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": {"role": "user"}}, "messages", "invalid_type"),
        ({"messages": 0}, "messages", "invalid_type"),
        ({"image": {}}, "image", "bad_request"),
        ({"image": URL}, "image", "bad_request"),
        ({"image": [{"url": URL}]}, "image", "bad_request"),
        ({"image": True}, "image", "bad_request"),
        ({"image": False}, "image", "bad_request"),
        ({"image": {"url": 5}}, "image", "bad_request"),
        ({"image": {"url": "", "base64": ""}}, "image", "bad_request"),
        ({"image": {"base64": 5}}, "image", "bad_request"),
        ({"stream": True}, "stream", "stream_not_supported"),
        ({"stream": "true"}, "stream", "stream_not_supported"),
        ({"stream": 1}, "stream", "stream_not_supported"),
    ],
)
def test_a_wrong_field_is_named(
    gateway: Gateway, simulator: Simulator, change: dict[str, Any], param: str, code: str
) -> None:
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, **change})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.pop("message")
    request_id = answer.headers["x-proxy-request-id"]
    assert error == {"type": "invalid_request_error", "param": param, "code": code, "request_id": request_id}
    assert simulator.requests == []
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, code)
    assert row["error_type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_field_that_is_not_there_is_named(gateway: Gateway, simulator: Simulator, name: str) -> None:
    body = {"model": MODEL, "messages": MESSAGES}
    del body[name]

    with gateway.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.post("/openai", cast_to=ChatCompletion, body=body)
    assert refused.value.param == name
    assert refused.value.code == "missing_required_parameter"
    assert refused.value.type == "invalid_request_error"
    assert simulator.requests == []


def test_a_stream_is_refused_in_words_the_sdk_understands(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client, pytest.raises(openai.BadRequestError, match="Streaming is not supported") as refused:
        client.post("/openai", cast_to=ChatCompletion, body={"model": MODEL, "messages": MESSAGES, "stream": True})
    assert refused.value.code == "stream_not_supported"
    assert simulator.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"[]", b'"text"', b"null", b'{"model": NaN}', b'{"n": 1e999}', b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}", b"\xff",
    ],
    ids=["cut", "array", "string", "null", "nan", "infinite", "deep", "long-number", "not-utf-8"],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(gateway: Gateway, simulator: Simulator, content: bytes) -> None:
    headers = {"content-type": "application/json", "authorization": f"Bearer {SECURITY_KEY}"}
    answer = gateway.http.post("/openai", content=content, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_json"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert simulator.requests == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_body_that_is_not_declared_as_json_is_refused(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    headers = {"content-type": kind, "authorization": f"Bearer {SECURITY_KEY}"}
    answer = gateway.http.post("/openai", content=b'{"model": "gpt-4o"}', headers=headers)

    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert simulator.requests == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused(gateway: Gateway, simulator: Simulator, method: str) -> None:
    answer = gateway.http.request(method, "/openai", headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert "POST" in answer.headers["allow"]
    assert simulator.requests == []


def test_a_slash_at_the_end_changes_nothing(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai/", {"model": MODEL, "messages": MESSAGES}).status_code == 200
    assert simulator.last.path == "/v1/chat/completions"
