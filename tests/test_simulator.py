"""The simulated OpenAI answers as the official SDK expects, and goes wrong only as it is asked to."""

import asyncio
import base64
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, get_type_hints

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import responses as response_types
from openai.types.audio import transcription_create_params
from openai.types.chat import completion_create_params

from tests.simulator import (
    Simulator,
    audio,
    chat_request,
    count_tokens,
    estimate_chat_prompt_tokens,
    response_request,
    run_simulator,
)
from tests.simulator.faults import parse_fault
from tests.simulator.samples import sample

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is TypeScript?"}]}
WEATHER = {
    "name": "get_weather",
    "description": "Get current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["location"],
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
AUDIO = ("audio.mp3", b"\xff\xfb\x90\x00" * 8000, "audio/mpeg")


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with run_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.clear()
    return running


@pytest.fixture(scope="module")
def client(running: Simulator) -> Iterator[OpenAI]:
    options: dict[str, Any] = {"max_retries": 0, "timeout": 10, "_strict_response_validation": True}
    with OpenAI(base_url=running.base_url, api_key="sk-test", **options) as client:
        yield client


@pytest.fixture(scope="module")
def http(running: Simulator) -> Iterator[httpx2.Client]:
    headers = {"authorization": "Bearer sk-test"}
    with httpx2.Client(base_url=running.base_url, headers=headers, timeout=10) as http:
        yield http


@pytest.fixture(autouse=True)
def _fresh(simulator: Simulator) -> None:
    pass


def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    blocks = response.text.split("\n\n")
    data = ["\n".join(line[6:] for line in block.splitlines() if line.startswith("data: ")) for block in blocks]
    return [json.loads(one) for one in data if one and one != "[DONE]"]


# --- chat completions


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
    bare = httpx2.post(f"{running.base_url}/chat/completions", json=ASK)
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
    assert set(response_request.PARAMETERS) == set(response)
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


# --- responses


def test_a_response_and_what_is_kept_of_it(client: OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="My name is Alice.", instructions="Be short.")
    assert "My name is Alice." in made.output_text
    assert made.model == "gpt-4o-2024-08-06"
    assert made.usage
    assert made.usage.output_tokens == count_tokens(made.output_text)
    assert client.responses.retrieve(made.id) == made
    items = list(client.responses.input_items.list(made.id))
    assert [item.type for item in items] == ["message"]
    following = client.responses.create(model="gpt-4o", input="What is my name?", previous_response_id=made.id)
    assert following.usage
    assert following.usage.input_tokens > made.usage.input_tokens
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as unknown:
        client.responses.create(model="gpt-4o", input="?", previous_response_id=made.id)
    assert unknown.value.code == "previous_response_not_found"
    unkept = client.responses.create(model="gpt-4o", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_the_events_of_a_streamed_response_come_in_order(client: OpenAI) -> None:
    events = list(client.responses.create(model="gpt-4o", input="Write a poem.", stream=True))
    types = [event.type for event in events]
    assert types[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(types[4:-4]) == {"response.output_text.delta"}
    assert types[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert last.response.output_text == "".join(deltas)
    assert last.response.usage.output_tokens == len(deltas)


def test_the_bytes_of_a_streamed_response_name_their_events(http: httpx2.Client) -> None:
    text = http.post("/responses", json={"model": "gpt-4o", "input": "hi", "stream": True}).text
    assert text.startswith('event: response.created\ndata: {"type":"response.created"')
    assert "[DONE]" not in text


def test_every_hosted_tool_shows_its_events_and_its_item(client: OpenAI) -> None:
    tools: Any = [
        {"type": "web_search_preview"},
        {"type": "file_search", "vector_store_ids": ["vs_abc123"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {
            "type": "mcp",
            "server_label": "drive",
            "server_url": "https://mcp.example.com",
            "allowed_tools": ["search_files"],
        },
        {"type": "image_generation"},
    ]
    include: Any = ["web_search_call.action.sources", "file_search_call.results", "code_interpreter_call.outputs"]
    asked: dict[str, Any] = {"model": "o3", "input": "Look it up", "tools": tools, "include": include}
    asked["reasoning"] = {"effort": "high", "summary": "auto"}
    events = list(client.responses.create(**asked, stream=True))
    last: Any = events[-1]
    assert [item.type for item in last.response.output] == [
        "reasoning",
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_list_tools",
        "mcp_call",
        "image_generation_call",
        "message",
    ]
    seen = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))
    assert seen == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "image_generation_call.in_progress",
        "image_generation_call.generating",
        "image_generation_call.partial_image",
        "image_generation_call.completed",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "completed",
    ]
    whole = client.responses.create(**asked)
    assert [item.type for item in whole.output] == [item.type for item in last.response.output]


def test_a_function_is_called_and_its_output_answered(client: OpenAI) -> None:
    tools: Any = [{"type": "function", **WEATHER}]
    question = "What is the weather in San Francisco?"
    events = list(client.responses.create(model="gpt-4o", input=question, tools=tools, stream=True))
    types = [event.type for event in events]
    assert types.index("response.function_call_arguments.delta") < types.index("response.function_call_arguments.done")
    last: Any = events[-1]
    call = last.response.output[0]
    assert json.loads(call.arguments)["location"] == "San Francisco"
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}]
    answer = client.responses.create(model="gpt-4o", input=result, tools=tools, previous_response_id=last.response.id)
    assert answer.output[0].type == "message"
    assert [item.type for item in client.responses.input_items.list(answer.id)] == ["function_call_output"]


def test_a_response_runs_out_of_tokens(client: OpenAI) -> None:
    events = list(client.responses.create(model="gpt-4o", input="hi", max_output_tokens=16, stream=True))
    last: Any = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 16
    with pytest.raises(openai.BadRequestError) as small:
        client.responses.create(model="gpt-4o", input="hi", max_output_tokens=15)
    assert small.value.code == "integer_below_min_value"


def test_a_background_response_goes_through_its_phases(client: OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="hi", background=True)
    assert (made.status, made.usage) == ("queued", None)
    assert client.responses.retrieve(made.id).status == "in_progress"
    done = client.responses.retrieve(made.id)
    assert done.status == "completed"
    assert done.usage
    assert client.responses.cancel(made.id).status == "completed"
    other = client.responses.create(model="gpt-4o", input="hi", background=True)
    assert client.responses.cancel(other.id).status == "cancelled"
    assert client.responses.retrieve(other.id).status == "cancelled"
    plain = client.responses.create(model="gpt-4o", input="hi")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(plain.id)


def test_a_background_stream_can_be_resumed(client: OpenAI) -> None:
    events = list(client.responses.create(model="gpt-4o", input="hi", background=True, stream=True))
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    first: Any = events[0]
    resumed = list(client.responses.retrieve(first.response.id, stream=True, starting_after=5))
    assert resumed == events[6:]


def test_input_items_are_paged(client: OpenAI) -> None:
    words: Any = [{"role": "user", "content": word} for word in ("one", "two", "three")]
    made = client.responses.create(model="gpt-4o", input=words)
    page = client.responses.input_items.list(made.id, limit=2, order="asc")
    assert page.has_more
    every = [item.content[0].text for item in page if item.type == "message" and item.content[0].type == "input_text"]
    assert every == ["one", "two", "three"]
    with pytest.raises(openai.BadRequestError):
        client.responses.input_items.list(made.id, limit=101)
    newest: Any = client.responses.input_items.list(made.id, limit=1).data[0]
    assert newest.content[0].text == "three"


def test_counting_and_compacting(client: OpenAI, http: httpx2.Client) -> None:
    counted = client.responses.input_tokens.count(model="gpt-4o", input="Tell me a story.")
    made = client.responses.create(model="gpt-4o", input="Tell me a story.")
    assert made.usage
    assert counted.input_tokens == made.usage.input_tokens
    # The SDK's type has no user message in `output`; its docstring says that they come first.
    compacted = http.post("/responses/compact", json={"model": "gpt-4o", "input": "Tell me a story."}).json()
    assert [item["type"] for item in compacted["output"]] == ["message", "compaction"]
    assert compacted["object"] == "response.compaction"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"security_key": "x"}, "security_key", "unknown_parameter"),
        ({"input": 5}, "input", "invalid_type"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "hammer"}]}, "tools[0].type", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, None, "mutually_exclusive_parameters"),
    ],
)
def test_a_bad_response_request_is_refused(
    http: httpx2.Client, change: dict[str, Any], param: str | None, code: str
) -> None:
    body = {key: value for key, value in {"model": "gpt-4o", "input": "hi", **change}.items() if value is not None}
    response = http.post("/responses", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code), error


def test_the_examples_of_the_seed_readme_are_answered(client: OpenAI, http: httpx2.Client) -> None:
    bare = [
        {"type": "input_text", "text": "What is in this image?"},
        {"type": "input_image", "image_url": "https://e.com/i.png"},
    ]
    image = http.post("/responses", json={"model": "gpt-4o", "input": bare})
    assert "I see 1 image." in image.text
    assert client.responses.retrieve("resp_abc123").status == "completed"
    assert next(iter(client.responses.input_items.list("resp_abc123"))).id == "msg_abc123"
    assert client.responses.cancel("resp_abc123").status == "cancelled"
    for _ in range(2):
        assert http.delete("/responses/resp_abc123").json() == {
            "id": "resp_abc123",
            "object": "response",
            "deleted": True,
        }
    assert http.post("/responses/resp_abc123/cancel", json={}).status_code == 200
    assert client.responses.create(model="gpt-4o", input="?", previous_response_id="resp_abc123...").id


def test_conversations_keep_their_items(client: OpenAI) -> None:
    conversation = client.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "Hello"}])
    made = client.responses.create(model="gpt-4o", input="Go on", conversation=conversation.id)
    assert made.conversation
    assert made.conversation.id == conversation.id
    assert len(list(client.conversations.items.list(conversation.id))) == 3
    added = client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "More"}]).data[0]
    assert added.type == "message"
    assert client.conversations.items.retrieve(added.id, conversation_id=conversation.id) == added
    assert client.conversations.items.delete(added.id, conversation_id=conversation.id).id == conversation.id
    assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(conversation.id).metadata == {"c": "d"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/chat/completions", {"tools": [{"type": []}]}),
        ("/chat/completions", {"response_format": {"type": []}}),
        ("/responses", {"input": [{"type": []}]}),
        ("/responses", {"text": {"format": {"type": []}}}),
        ("/responses", {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"enum": 5}}}}),
        ("/responses", {"tools": [{"type": "mcp", "server_label": "x", "allowed_tools": 5}]}),
        ("/responses", {"tools": [{"type": "function", "name": "call", "parameters": 5}]}),
    ],
)
def test_nonsense_is_refused_and_never_a_server_error(http: httpx2.Client, path: str, change: dict[str, Any]) -> None:
    good = ASK if path == "/chat/completions" else {"model": "gpt-4o", "input": "call it"}
    assert http.post(path, json={**good, **change}).status_code == 400


# --- the other endpoints


def test_embeddings_are_unit_vectors_in_both_encodings(client: OpenAI, http: httpx2.Client) -> None:
    asked: dict[str, Any] = {"model": "text-embedding-3-small", "input": ["one", "two"]}
    floats = http.post("/embeddings", json=asked).json()
    packed = http.post("/embeddings", json={**asked, "encoding_format": "base64"}).json()
    vector = floats["data"][0]["embedding"]
    assert list(struct.unpack("<1536f", base64.b64decode(packed["data"][0]["embedding"]))) == vector
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
    typed = client.embeddings.create(**asked, encoding_format="float")
    assert typed.data[0].embedding == vector
    # Unless told the encoding, the SDK asks for base64, and its strict validation runs before it unpacks that.
    lenient = client.with_options(_extra_kwargs={"_strict_response_validation": False})
    assert lenient.embeddings.create(**asked).data[0].embedding == vector
    large = client.embeddings.create(model="text-embedding-3-large", input="x", encoding_format="float")
    assert len(large.data[0].embedding) == 3072
    small: dict[str, Any] = {"model": "text-embedding-3-small", "dimensions": 512, "encoding_format": "float"}
    tokens = client.embeddings.create(**small, input=[[1, 2], [3]])
    assert [len(one.embedding) for one in tokens.data] == [512, 512]
    assert tokens.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    "change",
    [
        {"input": ""},
        {"input": []},
        {"input": ["x"] * 2049},
        {"input": None},
        {"dimensions": 5000},
        {"dimensions": 5, "model": "text-embedding-ada-002"},
        {"encoding_format": "hex"},
    ],
)
def test_bad_embeddings_requests_are_refused(http: httpx2.Client, change: dict[str, Any]) -> None:
    response = http.post("/embeddings", json={"model": "text-embedding-3-small", "input": "x", **change})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_a_transcription_in_every_format(simulator: Simulator, client: OpenAI) -> None:
    transcriptions = client.audio.transcriptions
    plain = transcriptions.create(model="whisper-1", file=AUDIO, language="en")
    assert plain.text.startswith("Hello, this is a transcription of the audio file.")
    assert plain.usage
    assert plain.usage.type == "duration"
    assert simulator.last.form["language"] == ["en"]
    assert simulator.last.files[0].data == AUDIO[1]
    assert simulator.last.files[0].content_type == "audio/mpeg"
    tokens = transcriptions.create(model="gpt-4o-transcribe", file=AUDIO)
    assert tokens.usage
    assert tokens.usage.type == "tokens"
    verbose = transcriptions.create(
        model="whisper-1", file=AUDIO, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert verbose.words
    assert verbose.segments
    assert verbose.duration == 2
    assert not transcriptions.create(model="whisper-1", file=AUDIO, response_format="verbose_json").words
    diarized = transcriptions.create(model="gpt-4o-transcribe-diarize", file=AUDIO, response_format="diarized_json")
    assert {segment.speaker for segment in diarized.segments} == {"A", "B"}


def test_a_transcription_as_plain_text(http: httpx2.Client) -> None:
    for form, beginning in {
        "text": "Hello",
        "srt": "1\n00:00:00,000 --> ",
        "vtt": "WEBVTT\n\n00:00:00.000 --> ",
    }.items():
        data = {"model": "whisper-1", "response_format": form}
        response = http.post("/audio/transcriptions", data=data, files={"file": AUDIO})
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text.startswith(beginning)


def test_a_streamed_transcription(client: OpenAI) -> None:
    transcriptions = client.audio.transcriptions
    events = list(transcriptions.create(model="gpt-4o-mini-transcribe", file=AUDIO, stream=True))
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    last: Any = events[-1]
    assert last.type == "transcript.text.done"
    assert last.usage.total_tokens
    ignored = transcriptions.with_raw_response.create(model="whisper-1", file=AUDIO, stream=True)
    assert ignored.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("data", "files", "message"),
    [
        ({"model": "whisper-1"}, {"other": AUDIO}, "Missing required parameter: 'file'"),
        ({"model": "whisper-1"}, {"file": ("a.txt", b"x")}, "Unrecognized file format"),
        ({}, {"file": AUDIO}, "you must provide a model parameter"),
        ({"model": "whisper-1", "response_format": "xml"}, {"file": AUDIO}, "Invalid value: 'xml'"),
        ({"model": "gpt-4o-transcribe", "response_format": "srt"}, {"file": AUDIO}, "is not compatible with model"),
        (
            {"model": "whisper-1", "security_key": "x"},
            {"file": AUDIO},
            "Unrecognized request argument supplied: security_key",
        ),
    ],
)
def test_bad_transcriptions_are_refused(http: httpx2.Client, data: Any, files: Any, message: str) -> None:
    response = http.post("/audio/transcriptions", data=data, files=files)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_translations_speech_models_moderations_and_images(client: OpenAI) -> None:
    with pytest.deprecated_call():
        translation = client.audio.translations.create(model="whisper-1", file=AUDIO)
    assert translation.text
    speech = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    assert speech.response.headers["content-type"] == "audio/mpeg"
    assert speech.content
    assert "gpt-4o-mini" in {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-nope")
    flagged = client.moderations.create(input=["I will kill you", "I like tea"])
    assert [result.flagged for result in flagged.results] == [True, False]
    image = client.images.generate(model="gpt-image-1", prompt="A cat")
    assert image.data
    assert base64.b64decode(image.data[0].b64_json or "").startswith(b"\x89PNG")
    assert image.usage
    events = list(client.images.generate(model="gpt-image-1", prompt="A cat", stream=True, partial_images=2))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert client.images.edit(model="gpt-image-1", prompt="A dog", image=("a.png", b"x", "image/png")).data


def test_the_rarer_ways_of_asking(client: OpenAI, http: httpx2.Client) -> None:
    spoken = http.post(
        "/audio/speech", json={"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello", "stream_format": "sse"}
    )
    assert [event["type"] for event in events_of(spoken)] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]
    assert http.post("/audio/speech", json={"model": "tts-1", "voice": "alloy"}).status_code == 400
    drawn = client.images.generate(model="dall-e-3", prompt="A cat").data
    assert drawn
    assert drawn[0].url
    assert drawn[0].revised_prompt
    judged: Any = [{"type": "text", "text": "tea"}]
    assert len(client.moderations.create(input=judged).results) == 1
    streamed = client.audio.transcriptions.create(model="fault:events-7", file=AUDIO, stream=True)
    assert len(list(streamed)) == 8
    made = client.responses.create(model="gpt-4o", input="Hello")
    again: Any = [{"type": "item_reference", "id": made.output[0].id}, {"role": "user", "content": "Go on"}]
    assert client.responses.create(model="gpt-4o", input=again).status == "completed"
    parts: Any = [
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]},
    ]
    filed = client.responses.create(model="gpt-4o", input=parts)
    assert len(client.responses.input_items.list(filed.id).data) == 2
    form: Any = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
    person = client.responses.create(model="gpt-4o", input="Extract: John is 30 years old.", text=form)
    assert json.loads(person.output_text) == {"name": "John", "age": 30}
    required: Any = [{"type": "function", **WEATHER}]
    called = client.responses.create(model="gpt-4o", input="Hi", tools=required, tool_choice="required")
    assert called.output[0].type == "function_call"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object"}}, "messages"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"model": "gpt-5", "temperature": 0.5}, "temperature"),
    ],
)
def test_what_a_chat_request_says_is_checked(http: httpx2.Client, change: dict[str, Any], param: str) -> None:
    response = http.post("/chat/completions", json={**ASK, **change})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


# --- faults


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 502, 503, 504])
def test_a_status_on_demand_has_openais_error_body(client: OpenAI, status: int) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(**{**ASK, "model": f"fault:status-{status}"})
    assert failed.value.status_code == status
    body: Any = failed.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert (failed.value.response.headers.get("retry-after") == "1") is (status == 429)


def test_a_fault_comes_by_header_by_response_id_or_from_the_queue(
    simulator: Simulator, client: OpenAI, http: httpx2.Client
) -> None:
    assert http.get("/models", headers={"x-simulator-fault": "status-500"}).status_code == 500
    assert http.get("/responses/resp_fault-status-503").status_code == 503
    assert http.get("/responses/resp_fault-huge-5").json()["id"] == "resp_abc123"
    simulator.fail_next("status-500")
    simulator.fail_next("status-429", times=2)
    statuses = [http.get("/models").status_code for _ in range(4)]
    assert statuses == [500, 429, 429, 200]
    with pytest.raises(ValueError, match="knows no fault 'explode'"):
        simulator.fail_next("events-3+explode")
    data = {"model": "fault:status-500"}
    assert http.post("/audio/transcriptions", data=data, files={"file": AUDIO}).status_code == 500


def test_whole_answers_that_go_wrong(http: httpx2.Client) -> None:
    def ask(fault: str) -> httpx2.Response:
        return http.post("/chat/completions", json={**ASK, "model": f"fault:{fault}"})

    html = ask("html")
    assert (html.status_code, html.headers["content-type"]) == (502, "text/html")
    redirect = ask("redirect")
    assert (redirect.status_code, redirect.headers["location"].endswith("/v1/redirected")) == (307, True)
    with pytest.raises(json.JSONDecodeError):
        ask("bad-json").json()
    packed = ask("gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["object"] == "chat.completion"
    assert 300_000 < len(ask("huge-300000").content) < 310_000
    assert ask("drip").json()["choices"] == ask("split-7").json()["choices"] == packed.json()["choices"]
    with pytest.raises(httpx2.RemoteProtocolError):
        ask("cut-body")
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        ask("cut")


def test_a_cut_connection_is_recorded(simulator: Simulator, client: OpenAI) -> None:
    for fault in ("cut", "cut-body"):
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(**{**ASK, "model": f"fault:{fault}"})
        simulator.wait_until(lambda: simulator.in_flight == 0)
        assert simulator.last.outcome == "cut"


STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", {"messages": ASK["messages"], "stream": True}),
    "responses": ("/responses", {"input": "hi", "stream": True}),
}


@pytest.mark.parametrize("api", STREAMS)
def test_a_stream_with_as_many_deltas_as_asked(http: httpx2.Client, api: str) -> None:
    path, body = STREAMS[api]
    events = events_of(http.post(path, json={**body, "model": "fault:events-300"}))
    deltas = [event for event in events if event.get("type") == "response.output_text.delta"]
    deltas = deltas or [event for event in events if event["choices"][0]["delta"].get("content")]
    assert len(deltas) == 300


@pytest.mark.parametrize("api", STREAMS)
@pytest.mark.parametrize("fault", ["split-1", "split-5", "drip", "gzip", "gzip+split-3", "pace-0.001", "silent-0.01"])
def test_a_stream_that_comes_in_odd_pieces_is_still_the_same(http: httpx2.Client, api: str, fault: str) -> None:
    path, body = STREAMS[api]

    def texts(model: str) -> list[Any]:
        events = events_of(http.post(path, json={**body, "model": model}))
        return [event.get("delta") or [choice["delta"] for choice in event.get("choices", [])] for event in events]

    assert texts(f"fault:{fault}") == texts("gpt-4o-mini")


@pytest.mark.parametrize("api", STREAMS)
def test_a_stream_that_dies(simulator: Simulator, http: httpx2.Client, api: str) -> None:
    path, body = STREAMS[api]
    for fault, whole, torn in (("cut-stream-3", 3, False), ("cut-event-3", 3, True), ("cut-stream-0", 0, False)):
        received = bytearray()
        with http.stream("POST", path, json={**body, "model": f"fault:{fault}"}) as response:
            assert response.status_code == 200
            with pytest.raises(httpx2.RemoteProtocolError):
                _drain(response, received)
        assert received.count(b"\n\n") == whole
        assert (bool(received) and not received.endswith(b"\n\n")) is torn
        simulator.wait_until(lambda: simulator.in_flight == 0)
        assert simulator.last.outcome == "cut"


def _drain(response: httpx2.Response, received: bytearray) -> None:
    for chunk in response.iter_bytes():
        received += chunk


def test_an_error_event_and_a_malformed_event(client: OpenAI, http: httpx2.Client) -> None:
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(client.chat.completions.create(**{**ASK, "model": "fault:error-event"}, stream=True))
    events: list[Any] = list(client.responses.create(model="fault:error-event", input="hi", stream=True))
    assert (events[-1].type, events[-1].code, events[-1].sequence_number) == ("error", "server_error", 4)
    assert (
        "[DONE]" not in http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:error-event"}).text
    )
    malformed = http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:malformed"}).text
    assert malformed.endswith("data: [DONE]\n\n")
    with pytest.raises(json.JSONDecodeError):
        list(client.chat.completions.create(**{**ASK, "model": "fault:malformed"}, stream=True))


def test_slow_and_paced_answers_take_their_time(http: httpx2.Client) -> None:
    began = time.monotonic()
    http.post("/chat/completions", json={**ASK, "model": "fault:slow-0.1"})
    assert time.monotonic() - began >= 0.1
    began = time.monotonic()
    http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:events-5+pace-0.02"})
    assert time.monotonic() - began >= 0.1


def test_a_hanging_answer_ends_when_the_client_gives_up(simulator: Simulator, client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.1).chat.completions.create(**{**ASK, "model": "fault:hang"})
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"


def test_a_client_that_hangs_up_stops_its_stream_at_once(simulator: Simulator, client: OpenAI) -> None:
    stream = client.chat.completions.create(**{**ASK, "model": "fault:events-10000+pace-0.01"}, stream=True)
    next(iter(stream))
    assert simulator.in_flight == 1
    stream.close()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"
    assert simulator.last.events_sent < 1000


def test_the_gate_holds_the_head_until_released(simulator: Simulator, client: OpenAI) -> None:
    answers: list[Any] = []

    def ask(model: str) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: answers.append(client.chat.completions.create(**{**ASK, "model": model}))
        )
        thread.start()
        return thread

    thread = ask("fault:gate")
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert (simulator.in_flight, answers) == (1, [])
    simulator.release()
    thread.join(5)
    simulator.hold()
    threads = [ask("gpt-4o-mini"), ask("gpt-4o-mini")]
    simulator.release(waiting=2)
    for thread in threads:
        thread.join(5)
    assert len(answers) == 3


def test_the_gate_holds_a_stream_after_two_events(simulator: Simulator, client: OpenAI) -> None:
    stream = iter(client.responses.create(model="fault:gate-stream", input="hi", stream=True))
    assert [next(stream).type, next(stream).type] == ["response.created", "response.in_progress"]
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert simulator.last.events_sent == 2
    simulator.release()
    assert list(stream)[-1].type == "response.completed"


# --- many at once, and from outside


def test_many_streams_at_once(simulator: Simulator) -> None:
    async def run() -> list[int]:
        options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
        async with AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", **options) as client:

            async def one() -> int:
                asked = {**ASK, "model": "fault:events-20+pace-0.01"}
                stream = await client.chat.completions.create(**asked, stream=True)
                return len([chunk async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(50)))

    assert asyncio.run(run()) == [22] * 50
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert {request.outcome for request in simulator.requests} == {"completed"}


def test_the_pages_for_other_processes(simulator: Simulator, http: httpx2.Client) -> None:
    root = simulator.base_url.removesuffix("/v1") + "/_simulator"
    http.post("/chat/completions?a=1", json=ASK, headers=[("x-a", "1"), ("x-a", "2")])
    (seen,) = httpx2.get(f"{root}/requests").json()
    assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/v1/chat/completions", "a=1")
    assert [pair for pair in seen["headers"] if pair[0] == "x-a"] == [["x-a", "1"], ["x-a", "2"]]
    assert json.loads(seen["body"]) == ASK
    assert httpx2.post(f"{root}/faults", json={"fault": "status-500"}).json()["queued_faults"] == 1
    assert http.get("/models").status_code == 500
    assert httpx2.get(f"{root}/state").json()["in_flight"] == 0
    assert httpx2.post(f"{root}/hold").json()["held"] is True
    thread = threading.Thread(target=http.get, args=("/models",))
    thread.start()
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert httpx2.post(f"{root}/release").json()["waiting"] == 0
    thread.join(5)
    assert httpx2.get(f"{root}/nothing").status_code == 404
    assert httpx2.post(f"{root}/faults", json={"fault": "nonsense"}).status_code == 400
    httpx2.delete(f"{root}/requests")
    assert httpx2.get(f"{root}/requests").json() == []


def test_the_command_says_where_it_listens_and_stops_when_told() -> None:
    command = [sys.executable, "-m", "tests.simulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("simulator listening on http://127.0.0.1:")
        url = line.split()[-1]
        assert httpx2.get(f"{url}/models", headers={"authorization": "Bearer sk-x"}).status_code == 200
        process.terminate()
        assert process.wait(10) in {0, -15}


def test_it_stops_while_an_answer_hangs() -> None:
    with run_simulator() as simulator:
        connection = httpx2.Client(timeout=5)
        thread = threading.Thread(target=_swallow, args=(connection, f"{simulator.base_url}/models"))
        thread.start()
        simulator.wait_until(lambda: simulator.in_flight == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    thread.join(5)
    connection.close()


def _swallow(client: httpx2.Client, url: str) -> None:
    with pytest.raises(httpx2.HTTPError):
        client.get(url, headers={"authorization": "Bearer sk-x", "x-simulator-fault": "hang"})


@pytest.mark.parametrize("fault", ["", "slow", "slow-x", "split-0", "status-999", "cut-", "events"])
def test_an_unknown_fault_is_said_to_be_one(fault: str) -> None:
    with pytest.raises(ValueError, match=r"knows no fault|out of range"):
        parse_fault(fault)
