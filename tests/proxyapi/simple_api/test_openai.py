"""`POST /openai`: chat completions with the key in the body, and an image made easy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

MODEL = "gpt-4o-mini"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
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
