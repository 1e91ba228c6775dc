"""Simulated chat completions, plain, streamed and stored, and what is refused."""

import json
from typing import Any, get_type_hints

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types import responses as response_types
from openai.types.audio import transcription_create_params
from openai.types.chat import completion_create_params

from tests.simulator import Simulator, count_tokens, estimate_chat_prompt_tokens
from tests.simulator.content.samples import sample
from tests.simulator.endpoints import audio, chat_request
from tests.simulator.responses import request
from tests.simulator_tests.examples import ASK, PERSON, WEATHER
from tests.support.polling import PATIENCE


def test_a_chat_completion_answers_with_a_dated_model_and_its_usage(simulator: Simulator, client: OpenAI) -> None:
    completion = client.chat.completions.create(**ASK)
    assert completion.model == "gpt-4o-mini-2024-07-18"
    text = completion.choices[0].message.content or ""
    assert "What is TypeScript?" in text
    assert completion.usage
    assert completion.usage.prompt_tokens == estimate_chat_prompt_tokens(ASK["messages"])
    assert completion.usage.completion_tokens == count_tokens(text)
    assert completion.service_tier == "default"
    assert simulator.last.json == ASK
    assert simulator.last.outcome == "completed"


def test_every_answer_has_the_headers_of_the_real_thing(http: httpx2.Client) -> None:
    response = http.post("/chat/completions", json=ASK)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["openai-version"] == "2020-10-01"
    assert response.headers["server"] == "cloudflare"
    assert "__cf_bm=" in response.headers["set-cookie"]
    assert response.headers["x-ratelimit-limit-requests"] == "10000"
    stream = http.post("/chat/completions", json={**ASK, "stream": True})
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_streamed_chat_completion_says_the_same_as_a_whole_one(client: OpenAI, include_usage: bool) -> None:
    whole = client.chat.completions.create(**ASK)
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = list(client.chat.completions.create(**ASK, stream=True, **options))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert all(("usage" in chunk.model_fields_set) is include_usage for chunk in chunks)
    if include_usage:
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert chunks[-1].choices == []
    assert chunks[-1 - include_usage].choices[0].finish_reason == "stop"


def test_several_choices_images_and_logprobs(client: OpenAI) -> None:
    parts = [
        {"type": "text", "text": "What is in this image?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    messages: Any = [{"role": "user", "content": parts}]
    completion = client.chat.completions.create(model="gpt-4o", messages=messages, n=2, logprobs=True, top_logprobs=1)
    assert len(completion.choices) == 2
    assert "I see 1 image." in (completion.choices[0].message.content or "")
    assert completion.choices[0].logprobs
    chunks = client.chat.completions.create(model="gpt-4o", messages=messages, n=2, logprobs=True, stream=True)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_called_when_the_user_speaks_of_it(client: OpenAI, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in San Francisco?"}]
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": messages,
        "tools": [{"type": "function", "function": WEATHER}],
    }
    if stream:
        deltas = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        calls = [call for choice in deltas for call in choice.delta.tool_calls or []]
        name = calls[0].function.name if calls[0].function else None
        arguments = "".join((call.function and call.function.arguments) or "" for call in calls)
        reason: Any = deltas[-1].finish_reason
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        call: Any = (choice.message.tool_calls or [])[0]
        name, arguments, reason = call.function.name, call.function.arguments, choice.finish_reason
    assert (name, reason) == ("get_weather", "tool_calls")
    assert json.loads(arguments) == {"location": "San Francisco", "unit": "celsius"}
    none = client.chat.completions.create(**asked, tool_choice="none")
    assert none.choices[0].message.content


def test_structured_output_is_valid_against_its_schema(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    messages: Any = [{"role": "user", "content": "Extract the name and age from: John is 30 years old."}]
    completion = client.chat.completions.create(model="gpt-4o", messages=messages, response_format=form)
    assert json.loads(completion.choices[0].message.content or "") == {"name": "John", "age": 30}


def test_a_reasoning_model_and_a_token_limit(client: OpenAI) -> None:
    reasoned = client.chat.completions.create(**{**ASK, "model": "o3"})
    assert reasoned.usage
    assert reasoned.usage.completion_tokens_details
    assert reasoned.usage.completion_tokens_details.reasoning_tokens == 64
    short = client.chat.completions.create(**ASK, max_tokens=3)
    assert short.choices[0].finish_reason == "length"


def test_stored_completions(client: OpenAI, http: httpx2.Client) -> None:
    made = client.chat.completions.create(**ASK, store=True, metadata={"team": "a"})
    assert client.chat.completions.retrieve(made.id).id == made.id
    assert client.chat.completions.update(made.id, metadata={"team": "b"}).metadata == {"team": "b"}
    assert [one.id for one in client.chat.completions.list(metadata={"team": "b"})] == [made.id]
    assert not list(client.chat.completions.list(metadata={"team": "a"}))
    # The SDK's type says that stored messages are the assistant's; OpenAI's reference shows the user's.
    messages = http.get(f"/chat/completions/{made.id}/messages").json()
    assert messages["data"][0]["content"] == "What is TypeScript?"
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": None}, 400, None, None),
        ({"model": "gpt-nope-9"}, 404, "model", "model_not_found"),
        ({"messages": None}, 400, "messages", "missing_required_parameter"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": "hi"}, 400, "messages", "invalid_type"),
        ({"messages": [{"role": "owner", "content": "hi"}]}, 400, "messages[0].role", "invalid_value"),
        ({"temperature": 3}, 400, "temperature", "decimal_above_max_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({"top_p": -1}, 400, "top_p", "decimal_below_min_value"),
        ({"security_key": "x"}, 400, None, None),
        ({"stream_options": {}}, 400, "stream_options", None),
        ({"model": "text-embedding-3-small"}, 404, "model", None),
        ({"model": "o3", "max_tokens": 5}, 400, "max_tokens", "unsupported_parameter"),
        ({"model": "fault:nonsense"}, 400, None, "unknown_fault"),
    ],
)
def test_a_bad_chat_request_is_refused(
    http: httpx2.Client, change: dict[str, Any], status: int, param: str | None, code: str | None
) -> None:
    body = {key: value for key, value in {**ASK, **change}.items() if value is not None}
    response = http.post("/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code), error
    assert error["type"] == "invalid_request_error"


def test_keys_urls_methods_and_bad_json_are_refused(running: Simulator, http: httpx2.Client) -> None:
    bare = httpx2.post(f"{running.base_url}/chat/completions", json=ASK, timeout=PATIENCE)
    assert bare.status_code == 401
    assert bare.json()["error"]["message"].startswith("You didn't provide an API key.")
    invalid = http.post("/chat/completions", json=ASK, headers={"authorization": "Bearer sk-invalid-key"})
    assert (invalid.status_code, invalid.json()["error"]["code"]) == (401, "invalid_api_key")
    unknown = http.post("/x")
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "Invalid URL (POST /v1/x)")
    assert http.put("/embeddings").status_code == 405
    broken = http.post("/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    assert "We could not parse the JSON body" in broken.json()["error"]["message"]
    assert http.post("/chat/completions", content=b"{}").json()["error"]["code"] == "unsupported_content_type"


def test_the_parameters_are_those_the_sdk_knows() -> None:
    chat = get_type_hints(completion_create_params.CompletionCreateParamsStreaming)
    assert set(chat_request.PARAMETERS) == set(chat)
    response = get_type_hints(response_types.response_create_params.ResponseCreateParamsStreaming)
    assert set(request.PARAMETERS) == set(response)
    transcription = get_type_hints(transcription_create_params.TranscriptionCreateParamsStreaming)
    assert audio.TRANSCRIPTION_FIELDS | {"file"} == set(transcription)


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    node = {
        "type": "object",
        "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
    }
    assert sample({"$ref": "#/$defs/node", "$defs": {"node": node}}, "")["next"] is None
    bounded = {"type": "integer", "minimum": 5, "maximum": 9}
    assert sample({"type": "array", "items": bounded, "minItems": 2}, "I want 100") == [9, 9]
