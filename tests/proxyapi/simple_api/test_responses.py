"""`/openai2` and everything under it, not streamed: the Responses API."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from tests.simulator.server import Simulator
from tests.support.calls.simple_responses import EXAMPLE, KEY, MODEL, create
from tests.support.servers.gateway import UPSTREAM_KEY, Gateway

FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "description": "Get current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["location"],
    },
}
PERSON_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
PARAMETERS: dict[str, Any] = {
    "instructions": "You are a helpful coding assistant.",
    "tools": [
        {"type": "web_search_preview", "search_context_size": "medium"},
        {"type": "file_search", "vector_store_ids": ["vs_abc123"], "max_num_results": 20},
        FUNCTION,
        {"type": "mcp", "server_label": "mine", "server_url": "https://mcp.example.com", "allowed_tools": ["a", "b"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ],
    "tool_choice": "none",
    "stream": False,
    "temperature": 0.5,
    "top_p": 0.25,
    "max_output_tokens": 400,
    "max_tool_calls": 3,
    "parallel_tool_calls": False,
    "previous_response_id": EXAMPLE,
    "store": False,
    "metadata": {"team": "búho ✓"},
    "include": [
        "web_search_call.action.sources",
        "code_interpreter_call.outputs",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
    ],
    "text": {"format": {"type": "json_schema", "name": "person_info", "schema": PERSON_SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "high", "summary": "auto"},
    "truncation": "auto",
    "background": True,
    "service_tier": "flex",
    "prompt_cache_key": "cache-me",
    "safety_identifier": "person-1",
    "top_logprobs": 2,
    "user": "someone",
}


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {"model": MODEL, "input": "hi"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "response"
    assert simulator.last.method == "POST"
    assert simulator.last.path == "/v1/responses"
    assert simulator.last.query == ""
    assert simulator.last.json == {"model": MODEL, "input": "hi"}
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["route"]) == ("success", 200, "/openai2")
    assert row["stream"] is False
    assert row["request_model"] == MODEL
    assert row["response_model"] == "gpt-4o-2024-08-06"
    assert row["response_id"] == answer.json()["id"]
    assert row["service_tier"] == "default"
    assert row["input_tokens"] == answer.json()["usage"]["input_tokens"]
    assert row["output_tokens"] == answer.json()["usage"]["output_tokens"]
    assert row["reasoning_tokens"] == 0
    assert row["usage"] == answer.json()["usage"]


def test_the_sdk_reads_the_answer(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client:
        response = client.post("/openai2", cast_to=Response, body={"model": MODEL, "input": "Tell me a story."})

    assert "Tell me a story." in response.output_text
    assert simulator.last.json == {"model": MODEL, "input": "Tell me a story."}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_passes_unchanged(gateway: Gateway, simulator: Simulator, name: str) -> None:
    body = {"model": MODEL, "input": "hi", name: PARAMETERS[name]}
    answer = gateway.post("/openai2", body)

    assert answer.status_code == 200, answer.text
    assert simulator.last.json == body


def test_all_parameters_at_once_pass_unchanged(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "input": "hi", **PARAMETERS, "store": True}
    answer = gateway.post("/openai2", body)

    assert answer.status_code == 200, answer.text
    assert simulator.last.json == body


@pytest.mark.parametrize("as_object", [False, True])
def test_a_conversation_passes_unchanged(gateway: Gateway, simulator: Simulator, as_object: bool) -> None:
    conversation = {"id": "conv_1"} if as_object else "conv_1"
    answer = gateway.post("/openai2", {"model": MODEL, "conversation": conversation})

    assert simulator.last.json == {"model": MODEL, "conversation": conversation}
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Conversation with id 'conv_1' not found."


@pytest.mark.parametrize(
    "given",
    [
        [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": "https://e.org/a.png"}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}],
        [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}],
    ],
    ids=["image", "messages", "tool-output"],
)
def test_an_array_of_input_passes_unchanged(gateway: Gateway, simulator: Simulator, given: list[Any]) -> None:
    assert gateway.post("/openai2", {"model": MODEL, "input": given}).status_code == 200
    assert simulator.last.json == {"model": MODEL, "input": given}


@pytest.mark.parametrize("value", [{"deep": [1, None, True]}, None, 0, False, [], {}])
def test_an_unknown_parameter_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator, value: Any) -> None:
    body = {"model": MODEL, "input": "hi", "brand_new": value}
    answer = gateway.post("/openai2", body)

    assert simulator.last.json == body
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_parameter"


def test_a_function_call_comes_back(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "input": "What is the weather in San Francisco?", "tools": [FUNCTION]}
    answer = gateway.post("/openai2", body)

    [call] = [item for item in answer.json()["output"] if item["type"] == "function_call"]
    assert call["name"] == "get_weather"


def test_structured_output_comes_back(gateway: Gateway, simulator: Simulator) -> None:
    text = {"format": {"type": "json_schema", "name": "person_info", "schema": PERSON_SCHEMA}}
    with gateway.sdk() as client:
        body = {"model": MODEL, "input": "John is 30 years old.", "text": text}
        response = client.post("/openai2", cast_to=Response, body=body)

    assert response.output_text == '{"name":"John","age":30}'


def test_web_searches_are_counted(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "input": "What is the latest news about AI?", "tools": [{"type": "web_search_preview"}]}
    answer = gateway.post("/openai2", body)

    searches = [item for item in answer.json()["output"] if item["type"] == "web_search_call"]
    assert len(searches) > 0
    assert gateway.row(answer)["web_searches"] == len(searches)


def test_a_second_turn_remembers_the_first(gateway: Gateway, simulator: Simulator) -> None:
    first = create(gateway)
    body = {"model": MODEL, "input": "What is my name?", "previous_response_id": first}
    answer = gateway.post("/openai2", body)

    assert answer.json()["previous_response_id"] == first
    assert simulator.last.json == body


@pytest.mark.parametrize("source", [{"previous_response_id": EXAMPLE}, {"prompt": {"id": "pmpt_1"}}])
def test_input_may_be_missing_where_something_stands_for_it(
    gateway: Gateway, simulator: Simulator, source: dict[str, Any]
) -> None:
    answer = gateway.post("/openai2", {"model": MODEL, **source})

    assert simulator.last.json == {"model": MODEL, **source}
    assert answer.status_code == 200


def test_a_prompt_template_needs_no_model(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {"prompt": {"id": "pmpt_1"}})

    assert simulator.last.json == {"prompt": {"id": "pmpt_1"}}
    assert answer.json()["error"]["param"] == "model"  # this upstream's word on it, not ours
    assert "request_id" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": ""}, "model", "invalid_type"),
        ({"model": 5}, "model", "invalid_type"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_type"),
        ({"input": {"text": "hi"}}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"stream": "true"}, "stream", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
    ],
)
def test_a_wrong_field_is_named(
    gateway: Gateway, simulator: Simulator, change: dict[str, Any], param: str, code: str
) -> None:
    answer = gateway.post("/openai2", {"model": MODEL, "input": "hi", **change})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert simulator.requests == []
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, code)


# --- compact, input_tokens


def test_compact_passes_up_and_down(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "input": "A long story.", "instructions": "Keep the names."}
    answer = gateway.post("/openai2/compact", body)

    assert answer.status_code == 200
    assert answer.json()["object"] == "response.compaction"
    assert (simulator.last.method, simulator.last.path) == ("POST", "/v1/responses/compact")
    assert simulator.last.json == body
    row = gateway.row(answer)
    assert (row["outcome"], row["route"], row["request_model"]) == ("success", "/openai2/compact", MODEL)
    assert row["input_tokens"] == answer.json()["usage"]["input_tokens"]


def test_input_tokens_passes_up_and_down(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": MODEL, "input": "How many?", "tools": [FUNCTION]}
    answer = gateway.post("/openai2/input_tokens", body)

    assert answer.status_code == 200
    assert answer.json()["object"] == "response.input_tokens"
    assert answer.json()["input_tokens"] > 0
    assert (simulator.last.method, simulator.last.path) == ("POST", "/v1/responses/input_tokens")
    assert simulator.last.json == body
    row = gateway.row(answer)
    assert (row["outcome"], row["route"], row["request_model"]) == ("success", "/openai2/input_tokens", MODEL)


@pytest.mark.parametrize("path", ["/openai2/compact", "/openai2/input_tokens"])
def test_what_they_need_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.post(path, {"model": "gpt-nope", "input": "hi"})

    assert simulator.last.json == {"model": "gpt-nope", "input": "hi"}
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/openai2", "/openai2/compact", "/openai2/input_tokens"])
def test_a_body_that_is_no_object_is_refused(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.http.post(path, json=["hi"], params=KEY)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_json"
    assert simulator.requests == []
