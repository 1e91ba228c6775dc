"""`POST /openai`: chat completions with the key in the body, and an image made easy."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

MODEL = "gpt-4o-mini"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
URL = "https://example.com/image.png"
URL_PART = {"type": "image_url", "image_url": {"url": URL}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}
PERSON_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "schema": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
    },
}
PARAMETERS: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.25,
    "max_tokens": 500,
    "max_completion_tokens": 400,
    "frequency_penalty": -0.5,
    "presence_penalty": 1.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "metadata": {"team": "búho ✓"},
    "modalities": ["text"],
    "n": 2,
    "prediction": {"type": "content", "content": "hi"},
    "prompt_cache_key": "cache-me",
    "reasoning_effort": "low",
    "response_format": PERSON_FORMAT,
    "safety_identifier": "person-1",
    "seed": 7,
    "service_tier": "flex",
    "stop": ["END", "\n"],
    "store": True,
    "stream": False,
    "tools": [WEATHER],
    "user": "someone",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}


def encoded(start: bytes) -> str:
    return base64.b64encode(start + bytes(range(40))).decode()


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "chat.completion"
    assert simulator.last.method == "POST"
    assert simulator.last.path == "/v1/chat/completions"
    assert simulator.last.query == ""
    assert simulator.last.json == {"model": MODEL, "messages": MESSAGES}
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert simulator.last.header("content-type") == "application/json"
    row = gateway.row(answer)
    assert row["outcome"] == "success"
    assert row["status"] == 200
    assert row["route"] == "/openai"
    assert row["method"] == "POST"
    assert row["stream"] is False
    assert row["request_model"] == MODEL
    assert row["response_model"] == answer.json()["model"]
    assert row["response_id"] == answer.json()["id"]
    assert row["upstream_request_id"] == answer.headers["x-request-id"]
    assert row["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert row["output_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert row["usage"] == answer.json()["usage"]
    assert row["usage_source"] == "exact"
    assert row["response_bytes"] == len(answer.content)
    assert row["client_address"] is not None
    assert row["client_address"].is_loopback


def test_the_sdk_reads_the_answer(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "What is TypeScript?"}]}
        completion = client.post("/openai", cast_to=ChatCompletion, body=body)

    assert "What is TypeScript?" in (completion.choices[0].message.content or "")
    assert completion.usage is not None
    [row] = gateway.rows("WHERE response_id = %s", [completion.id], at_least=1)
    assert row["output_tokens"] == completion.usage.completion_tokens
    assert simulator.last.json == body


def test_the_readmes_example_reaches_upstream(gateway: Gateway, simulator: Simulator) -> None:
    body = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is TypeScript?"},
        ],
        "temperature": 0.7,
        "max_tokens": 500,
    }

    assert gateway.post("/openai", body).status_code == 200
    assert simulator.last.json == body


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_chat_parameter_passes_unchanged(gateway: Gateway, simulator: Simulator, name: str) -> None:
    body = {"model": MODEL, "messages": MESSAGES, name: PARAMETERS[name]}

    assert gateway.post("/openai", body).status_code == 200
    assert simulator.last.json == body


def test_all_parameters_at_once_pass_unchanged(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "messages": MESSAGES, **PARAMETERS}

    assert gateway.post("/openai", body).status_code == 200
    assert simulator.last.json == body


@pytest.mark.parametrize("value", [{"deep": [1, None, True]}, None, "", 0, False, [], {}])
def test_an_unknown_parameter_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator, value: Any) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "brand_new": value}
    answer = gateway.post("/openai", body)

    assert simulator.last.json == body
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Unrecognized request argument supplied: brand_new"
    assert "request_id" not in answer.json()["error"]


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(10**40),
        1.7976931348623157e308,
        5e-324,
        -0.0,
        0.1,
        1.0,
        "naïve café ✓ 🦄",
        "\x00\x1f",
        "\ud83d",
        "</",
    ],
    ids=repr,
)
def test_a_value_survives_being_parsed_and_written_again(gateway: Gateway, simulator: Simulator, value: Any) -> None:
    body = {"security_key": SECURITY_KEY, "model": MODEL, "messages": MESSAGES, "metadata": {"value": value}}
    headers = {"content-type": "application/json"}
    answer = gateway.http.post("/openai", content=json.dumps(body).encode(), headers=headers)

    assert repr(json.loads(simulator.last.body)["metadata"]["value"]) == repr(value)
    assert answer.status_code == simulator.last.status  # upstream's own word on it
    assert gateway.row(answer)["status"] == answer.status_code


@pytest.mark.parametrize(
    "model", ["gpt-4o-\ud83d", "gpt-4o\x00mini", "gpt-4o" * 1000], ids=["surrogate", "nul", "long"]
)
def test_an_odd_model_name_still_gets_its_row(gateway: Gateway, simulator: Simulator, model: str) -> None:
    body = {"security_key": SECURITY_KEY, "model": model, "messages": MESSAGES}
    headers = {"content-type": "application/json"}
    answer = gateway.http.post("/openai", content=json.dumps(body).encode(), headers=headers)

    assert json.loads(simulator.last.body)["model"] == model
    assert gateway.row(answer)["request_model"][:6] == "gpt-4o"


def test_a_tool_call_comes_back(gateway: Gateway, simulator: Simulator) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in San Francisco?"}],
        "tools": [WEATHER],
        "tool_choice": "auto",
    }
    answer = gateway.post("/openai", body)

    assert simulator.last.json == body
    [choice] = answer.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"location": "San Francisco"}


def test_the_result_of_a_tool_goes_up(gateway: Gateway, simulator: Simulator) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]

    assert gateway.post("/openai", {"model": MODEL, "messages": messages}).status_code == 200
    assert simulator.last.json["messages"] == messages


def test_structured_output_comes_back(gateway: Gateway, simulator: Simulator) -> None:
    messages = [{"role": "user", "content": "John is 30 years old."}]
    answer = gateway.post("/openai", {"model": MODEL, "messages": messages, "response_format": PERSON_FORMAT})

    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == {"name": "John", "age": 30}
    assert simulator.last.json["response_format"] == PERSON_FORMAT


# --- the image


def test_the_readmes_image_joins_the_users_question(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is in this image?"}]}
    answer = gateway.post("/openai", {**body, "image": {"url": URL}})

    assert "I see 1 image." in answer.json()["choices"][0]["message"]["content"]
    parts = [{"type": "text", "text": "What is in this image?"}, URL_PART]
    assert simulator.last.json == {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}]}


@pytest.mark.parametrize(
    ("start", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\xff\xd8\xff\xdb", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "image/png"),
        (b"who knows", "image/png"),
    ],
)
def test_base64_gets_its_media_type_from_its_first_bytes(
    gateway: Gateway, simulator: Simulator, start: bytes, media_type: str
) -> None:
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, "image": {"base64": encoded(start)}})

    assert answer.status_code == 200
    part = simulator.last.json["messages"][0]["content"][-1]
    assert part == {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{encoded(start)}"}}


@pytest.mark.parametrize("short", ["iVBO", "iVBORw0KGgoAAAANSUhEUg...", "?", "é✓"])
def test_base64_that_is_none_is_called_a_png(gateway: Gateway, simulator: Simulator, short: str) -> None:
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, "image": {"base64": short}})

    assert answer.status_code == 200
    url = simulator.last.json["messages"][0]["content"][-1]["image_url"]["url"]
    assert url == f"data:image/png;base64,{short}"


@pytest.mark.parametrize("field", ["base64", "url"])
def test_a_data_url_is_taken_as_it_is(gateway: Gateway, simulator: Simulator, field: str) -> None:
    url = f"data:image/avif;base64,{encoded(b'GIF89a')}"
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, "image": {field: url}})

    assert answer.status_code == 200
    assert simulator.last.json["messages"][0]["content"][-1]["image_url"]["url"] == url


def test_a_large_image_arrives_whole(gateway: Gateway, simulator: Simulator) -> None:
    image = base64.b64encode(b"\x89PNG" + bytes(5_000_000)).decode()
    answer = gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, "image": {"base64": image}})

    assert answer.status_code == 200
    url = simulator.last.json["messages"][0]["content"][-1]["image_url"]["url"]
    assert url == f"data:image/png;base64,{image}"


TEXT = {"type": "text", "text": "one"}
SYSTEM = {"role": "system", "content": "be brief"}
ASSISTANT = {"role": "assistant", "content": "yes"}
IMAGE_ALONE = {"role": "user", "content": [URL_PART]}


@pytest.mark.parametrize(
    ("messages", "joined"),
    [
        ([{"role": "user", "content": "one"}], [{"role": "user", "content": [TEXT, URL_PART]}]),
        ([{"role": "user", "content": [TEXT]}], [{"role": "user", "content": [TEXT, URL_PART]}]),
        ([{"role": "user", "content": [URL_PART]}], [{"role": "user", "content": [URL_PART, URL_PART]}]),
        ([{"role": "user", "content": []}], [IMAGE_ALONE]),
        ([{"role": "user", "content": ""}], [IMAGE_ALONE]),
        ([{"role": "user", "content": None}], [IMAGE_ALONE]),
        ([{"role": "user"}], [IMAGE_ALONE]),
        (
            [{"role": "user", "name": "Ann", "content": "one"}],
            [{"role": "user", "name": "Ann", "content": [TEXT, URL_PART]}],
        ),
        ([SYSTEM], [SYSTEM, IMAGE_ALONE]),
        ([SYSTEM, ASSISTANT], [SYSTEM, ASSISTANT, IMAGE_ALONE]),
        (
            [*MESSAGES, ASSISTANT, {"role": "user", "content": "one"}, SYSTEM, ASSISTANT],
            [*MESSAGES, ASSISTANT, {"role": "user", "content": [TEXT, URL_PART]}, SYSTEM, ASSISTANT],
        ),
    ],
    ids=[
        "text", "list", "list-with-image", "empty-list", "empty-text", "null", "no-content", "named", "system-only",
        "no-user", "user-not-last",
    ],
)  # fmt: skip
def test_the_image_joins_the_last_user_message(
    gateway: Gateway, simulator: Simulator, messages: list[Any], joined: list[Any]
) -> None:
    answer = gateway.post("/openai", {"model": MODEL, "messages": messages, "image": {"url": URL}})

    assert answer.status_code == 200
    assert simulator.last.json == {"model": MODEL, "messages": joined}


def test_no_image_is_no_image(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {"model": MODEL, "messages": MESSAGES, "image": None}).status_code == 200
    assert simulator.last.json == {"model": MODEL, "messages": MESSAGES}


# --- what is refused before upstream hears of it


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
