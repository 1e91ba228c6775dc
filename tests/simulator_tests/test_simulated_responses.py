"""Simulated responses and conversations, their events in order, and what is refused."""

import json
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.simulator import (
    count_tokens,
)
from tests.simulator_tests.examples import ASK, WEATHER


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
