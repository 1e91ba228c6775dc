"""`POST /chatgpt`: a prompt up, the message of the npm `chatgpt` library down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import openai
import pytest
from openai.types.chat import ChatCompletion

from proxyapi.simple_api.chat_bodies import chatgpt_answer
from tests.simulator.server import Simulator
from tests.support.servers.gateway import ACCESS_TOKEN, UPSTREAM_KEY, Gateway

SYSTEM = {"role": "system", "content": "You are an AI assistant."}
USER = {"role": "user", "content": "hi"}


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert simulator.last.method == "POST"
    assert simulator.last.path == "/v1/chat/completions"
    assert simulator.last.json == {"model": "gpt-4o-mini", "messages": [SYSTEM, USER]}
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["route"]) == ("success", 200, "/chatgpt")
    assert row["request_model"] == "gpt-4o-mini"
    assert row["response_model"] == "gpt-4o-mini-2024-07-18"
    assert row["response_id"] == answer.json()["id"]
    assert row["input_tokens"] == answer.json()["detail"]["usage"]["prompt_tokens"]


def test_the_answer_is_the_librarys_message_around_the_whole_completion(gateway: Gateway, simulator: Simulator) -> None:
    message = gateway.post("/chatgpt", {"prompt": "ünï ✓"}).json()

    assert set(message) == {"role", "id", "parentMessageId", "text", "detail"}
    completion = ChatCompletion.model_validate(message["detail"])
    assert message["role"] == "assistant"
    assert message["id"] == completion.id
    assert message["text"] == completion.choices[0].message.content
    assert "ünï ✓" in message["text"]
    assert UUID(message["parentMessageId"])
    assert completion.usage is not None
    assert message["detail"]["system_fingerprint"]


def test_a_model_that_says_nothing_is_an_empty_text(gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("events-0")
    message = gateway.post("/chatgpt", {"prompt": "hi"}).json()

    assert message["text"] == ""
    assert message["detail"]["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "gpt-4.1-nano"),
        ("temperature", 0),
        ("temperature", 2),
        ("temperature", 0.8),
        ("top_p", 0),
        ("top_p", 1),
        ("top_p", 0.5),
        ("max_tokens", 1),
        ("max_tokens", 5000),
        ("max_completion_tokens", 1),
        ("max_completion_tokens", 5000),
    ],
)
def test_an_option_goes_up(gateway: Gateway, simulator: Simulator, name: str, value: Any) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi", name: value})

    assert answer.status_code == 200
    assert simulator.last.json == {"model": "gpt-4o-mini", "messages": [SYSTEM, USER], name: value}


def test_all_options_at_once_go_up(gateway: Gateway, simulator: Simulator) -> None:
    options = {"model": "gpt-4o", "temperature": 0.8, "top_p": 0.9, "max_tokens": 50, "max_completion_tokens": 60}

    assert gateway.post("/chatgpt", {"prompt": "hi", **options}).status_code == 200
    assert simulator.last.json == {**options, "messages": [SYSTEM, USER]}


def test_the_system_message_can_be_another(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi", "systemMessage": "You are a pirate."})

    assert answer.status_code == 200
    assert simulator.last.json["messages"] == [{"role": "system", "content": "You are a pirate."}, USER]


@pytest.mark.parametrize("name", ["parentMessageId", "conversationId", "messages", "n", "tools", "store"])
def test_what_is_not_an_option_stays_here(gateway: Gateway, simulator: Simulator, name: str) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi", name: "5b3bbeb2-3b8c-4a0e-9d3a-1f2e7d9c0000"})

    assert answer.status_code == 200
    assert simulator.last.json == {"model": "gpt-4o-mini", "messages": [SYSTEM, USER]}


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "systemMessage",
        "parentMessageId",
        "stream",
    ],
)
def test_null_is_the_same_as_absent(gateway: Gateway, simulator: Simulator, name: str) -> None:
    assert gateway.post("/chatgpt", {"prompt": "hi", name: None}).status_code == 200
    assert simulator.last.json == {"model": "gpt-4o-mini", "messages": [SYSTEM, USER]}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "invalid_type"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": ["hi"]}, "prompt", "invalid_type"),
        ({"model": ""}, "model", "invalid_type"),
        ({"model": 4}, "model", "invalid_type"),
        ({"systemMessage": 4}, "systemMessage", "invalid_type"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": "0.5"}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_value"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"top_p": 1.1}, "top_p", "invalid_value"),
        ({"top_p": []}, "top_p", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": -5}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
        ({"max_tokens": "50"}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        ({"max_completion_tokens": False}, "max_completion_tokens", "invalid_value"),
        ({"stream": True}, "stream", "stream_not_supported"),
    ],
)
def test_a_wrong_field_is_named(
    gateway: Gateway, simulator: Simulator, change: dict[str, Any], param: str, code: str
) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi", **change})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["request_id"] == answer.headers["x-proxy-request-id"]
    assert param in error["message"] or param == "stream"
    assert simulator.requests == []
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, code)


def test_a_missing_prompt_is_a_bad_request_to_the_sdk(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.post("/chatgpt", cast_to=dict[str, Any], body={})
    assert refused.value.param == "prompt"
    assert simulator.requests == []


def test_upstreams_error_is_not_dressed_as_a_message(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/chatgpt", {"prompt": "hi", "model": "gpt-nope"})

    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]["code"] == "model_not_found"
    row = gateway.row(answer)
    assert (row["outcome"], row["error_code"]) == ("upstream_error", "model_not_found")


def test_an_answer_that_breaks_off_passes_as_it_is(gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("bad-json")
    answer = gateway.post("/chatgpt", {"prompt": "hi"})

    assert answer.status_code == 200
    assert answer.content.startswith(b'{\n  "id": "broken"')
    assert answer.content.endswith(b'"mess')


def test_the_default_model_is_a_setting(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway(DEFAULT_MODEL="gpt-4.1-mini")

    assert gateway.post("/chatgpt", {"prompt": "hi"}).status_code == 200
    assert simulator.last.json["model"] == "gpt-4.1-mini"
    assert gateway.http.get("/health2", headers={"authorization": f"Bearer {ACCESS_TOKEN}"}).status_code == 200
    assert simulator.last.json["model"] == "gpt-4.1-mini"


@pytest.mark.parametrize(
    "odd",
    [
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": 5}',
        b"[]",
        b'{"choices": ' + b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_completion_stays_as_it_is(odd: bytes) -> None:
    assert chatgpt_answer(odd) == odd
