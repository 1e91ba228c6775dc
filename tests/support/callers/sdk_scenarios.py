"""The scenarios of `test_sdk`: use every method of the official SDK for each open family, as a program would.

A scenario takes a client, and returns what it got. `CALLS` has the rows that it makes, in order: the route, the
requested model, and a word about the usage: "priced" (known, with a price), "repeated" (known and counted in another
row), "free" (none) or "estimated" (not stated by upstream).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Grüß dich ✓"}]}
RESPOND: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Hi ✓"}
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
QUESTION = "What is the weather in Paris?"
FILE = ("speech.mp3", b"\xff\xfb\x90\x00" + bytes(range(256)) * 40, "audio/mpeg")
IMAGE = ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "image/png")

Scenario = Callable[[Any], Iterable[Any]]
Row = tuple[str, str, str]


class Person(BaseModel):
    name: str
    age: int


# Chat completions


def chat_create(client: Any) -> Iterable[Any]:
    yield client.chat.completions.create(**ASK)
    with_raw = client.chat.completions.with_raw_response.create(**ASK)
    yield with_raw.headers["openai-version"]
    yield with_raw.headers["x-ratelimit-remaining-tokens"]


def chat_stream(client: Any) -> Iterable[Any]:
    yield list(client.chat.completions.create(**ASK, stream=True))
    yield list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))


def chat_stream_helper(client: Any) -> Iterable[Any]:
    with client.chat.completions.stream(**ASK) as stream:
        yield [event.type for event in stream]
        yield stream.get_final_completion()


def chat_parse(client: Any) -> Iterable[Any]:
    asked = ASK | {"messages": [{"role": "user", "content": "Alice is 30"}]}
    parsed = client.chat.completions.parse(**asked, response_format=Person)
    assert parsed.choices[0].message.parsed == Person(name="Alice", age=30)
    yield parsed


def chat_tools(client: Any) -> Iterable[Any]:
    tools = [{"type": "function", "function": WEATHER}]
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    asked = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=tools)
    [call] = asked.choices[0].message.tool_calls
    messages += [asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "18 °C"}]
    yield asked
    yield list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=tools, stream=True))


def chat_stored(client: Any) -> Iterable[Any]:
    completions = client.chat.completions
    stored = completions.create(**ASK, store=True, metadata={"a": "ü"})
    yield stored
    yield list(completions.list(limit=1, metadata={"a": "ü"}))
    yield completions.retrieve(stored.id)
    yield completions.update(stored.id, metadata={"a": "b"})
    yield [message.content for message in completions.messages.list(stored.id)]
    yield completions.delete(stored.id)


# Responses and conversations


def responses_create(client: Any) -> Iterable[Any]:
    first = client.responses.create(**RESPOND)
    yield first
    yield client.responses.create(**RESPOND, previous_response_id=first.id)


def responses_stream(client: Any) -> Iterable[Any]:
    yield list(client.responses.create(**RESPOND, stream=True))


def responses_stream_helper(client: Any) -> Iterable[Any]:
    with client.responses.stream(**RESPOND) as stream:
        yield [event.type for event in stream]
        yield stream.get_final_response()


def responses_parse(client: Any) -> Iterable[Any]:
    parsed = client.responses.parse(model="gpt-4o-mini", input="Alice is 30", text_format=Person)
    assert parsed.output_parsed == Person(name="Alice", age=30)
    yield parsed


def responses_tools(client: Any) -> Iterable[Any]:
    tools = [{"type": "function", "strict": False, **WEATHER}]
    asked = client.responses.create(model="gpt-4o-mini", input=QUESTION, tools=tools)
    [call] = asked.output
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "18 °C"}
    yield asked
    yield client.responses.create(model="gpt-4o-mini", input=[answer], previous_response_id=asked.id, tools=tools)


def responses_stored(client: Any) -> Iterable[Any]:
    made = client.responses.create(**RESPOND)
    yield client.responses.retrieve(made.id, include=["message.output_text.logprobs"])
    yield list(client.responses.input_items.list(made.id, limit=1, order="asc"))
    yield client.responses.delete(made.id)


def responses_resumed(client: Any) -> Iterable[Any]:
    events = list(client.responses.create(**RESPOND, stream=True, background=True))
    response_id = events[0].response.id
    resumed = list(client.responses.retrieve(response_id, stream=True, starting_after=3))
    assert [event.sequence_number for event in resumed] == [event.sequence_number for event in events[4:]]
    yield resumed
    with client.responses.stream(response_id=response_id, starting_after=1) as stream:
        yield [event.type for event in stream]


def responses_background(client: Any) -> Iterable[Any]:
    queued = client.responses.create(**RESPOND, background=True)
    yield queued
    yield client.responses.cancel(queued.id)
    done = client.responses.create(**RESPOND, background=True)
    yield [client.responses.retrieve(done.id) for _ in range(3)]


def responses_counted(client: Any) -> Iterable[Any]:
    yield client.responses.input_tokens.count(model="gpt-4o-mini", input="Hi ✓")
    yield client.responses.compact(model="gpt-4o-mini", input=[{"role": "user", "content": "Hi ✓"}])


def conversations(client: Any) -> Iterable[Any]:
    made = client.conversations.create(items=[{"role": "user", "content": "a"}], metadata={"x": "ü"})
    yield made
    yield client.conversations.retrieve(made.id)
    yield client.conversations.update(made.id, metadata={"x": "z"})
    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "b"}])
    yield added
    yield list(client.conversations.items.list(made.id, order="asc"))
    yield client.conversations.items.retrieve(added.data[0].id, conversation_id=made.id)
    yield client.responses.create(**RESPOND, conversation=made.id)
    yield client.conversations.items.delete(added.data[0].id, conversation_id=made.id)
    yield client.conversations.delete(made.id)


# The others


def embeddings(client: Any) -> Iterable[Any]:
    yield client.embeddings.create(model="text-embedding-3-small", input=["a", "ü"])
    yield client.embeddings.create(model="text-embedding-3-large", input="a", dimensions=8, encoding_format="float")


def speech(client: Any) -> Iterable[Any]:
    asked: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello ✓"}
    yield client.audio.speech.create(**asked).content
    with client.audio.speech.with_streaming_response.create(**asked, response_format="wav") as answer:
        yield answer.headers["content-type"]
        yield b"".join(answer.iter_bytes())
    with client.audio.speech.with_streaming_response.create(**asked, stream_format="sse") as answer:
        yield b"".join(answer.iter_bytes())


def transcriptions(client: Any) -> Iterable[Any]:
    create = client.audio.transcriptions.create
    yield create(model="whisper-1", file=FILE)
    yield create(model="whisper-1", file=FILE, response_format="verbose_json", timestamp_granularities=["word"])
    yield create(model="gpt-4o-transcribe", file=FILE, response_format="text")
    yield list(create(model="gpt-4o-mini-transcribe", file=FILE, stream=True, include=["logprobs"]))
    yield create(model="gpt-4o-transcribe-diarize", file=FILE, response_format="diarized_json")


def translations(client: Any) -> Iterable[Any]:
    yield client.audio.translations.create(model="whisper-1", file=FILE)


def images(client: Any) -> Iterable[Any]:
    yield client.images.generate(model="gpt-image-1", prompt="a cat ✓", n=2)
    yield list(client.images.generate(model="gpt-image-1", prompt="a cat", stream=True, partial_images=2))
    yield client.images.edit(model="gpt-image-1", prompt="a dog", image=[IMAGE, IMAGE], mask=IMAGE)
    yield list(client.images.edit(model="gpt-image-1", prompt="a dog", image=IMAGE, stream=True, partial_images=1))


def image_variations(client: Any) -> Iterable[Any]:
    yield client.images.create_variation(image=IMAGE, n=2, response_format="b64_json")


def moderations(client: Any) -> Iterable[Any]:
    yield client.moderations.create(model="omni-moderation-latest", input=["I will kill you", "tea"])


def models(client: Any) -> Iterable[Any]:
    yield list(client.models.list())
    yield client.models.retrieve("gpt-4o-mini")


CHAT, RESPONSES, CONVERSATIONS = "/v1/chat/completions", "/v1/responses", "/v1/conversations"
MINI = "gpt-4o-mini"
CALLS: dict[Scenario, list[Row]] = {
    chat_create: [(CHAT, MINI, "priced")] * 2,
    chat_stream: [(CHAT, MINI, "priced")] * 2,
    chat_stream_helper: [(CHAT, MINI, "priced")],
    chat_parse: [(CHAT, MINI, "priced")],
    chat_tools: [(CHAT, MINI, "priced")] * 2,
    chat_stored: [
        (CHAT, MINI, "priced"),
        (CHAT, "", "free"),
        *[(f"{CHAT}/{{id}}", "", "repeated"), (f"{CHAT}/{{id}}", "", "repeated")],
        (f"{CHAT}/{{id}}/messages", "", "free"),
        (f"{CHAT}/{{id}}", "", "free"),
    ],
    responses_create: [(RESPONSES, MINI, "priced")] * 2,
    responses_stream: [(RESPONSES, MINI, "priced")],
    responses_stream_helper: [(RESPONSES, MINI, "priced")],
    responses_parse: [(RESPONSES, MINI, "priced")],
    responses_tools: [(RESPONSES, MINI, "priced")] * 2,
    responses_stored: [
        (RESPONSES, MINI, "priced"),
        (f"{RESPONSES}/{{id}}", "", "repeated"),
        (f"{RESPONSES}/{{id}}/input_items", "", "free"),
        (f"{RESPONSES}/{{id}}", "", "free"),
    ],
    responses_resumed: [(RESPONSES, MINI, "priced"), *[(f"{RESPONSES}/{{id}}", "", "repeated")] * 2],
    responses_background: [
        (RESPONSES, MINI, "estimated"),
        (f"{RESPONSES}/{{id}}/cancel", "", "free"),
        (RESPONSES, MINI, "free"),  # its usage is counted in the look that learnt it
        (f"{RESPONSES}/{{id}}", "", "free"),
        (f"{RESPONSES}/{{id}}", "", "priced"),
        (f"{RESPONSES}/{{id}}", "", "repeated"),
    ],
    responses_counted: [(f"{RESPONSES}/input_tokens", MINI, "free"), (f"{RESPONSES}/compact", MINI, "priced")],
    conversations: [
        (CONVERSATIONS, "", "free"),
        *[(f"{CONVERSATIONS}/{{id}}", "", "free")] * 2,
        *[(f"{CONVERSATIONS}/{{id}}/items", "", "free")] * 2,
        (f"{CONVERSATIONS}/{{id}}/items/{{id}}", "", "free"),
        (RESPONSES, MINI, "priced"),
        (f"{CONVERSATIONS}/{{id}}/items/{{id}}", "", "free"),
        (f"{CONVERSATIONS}/{{id}}", "", "free"),
    ],
    embeddings: [
        ("/v1/embeddings", "text-embedding-3-small", "priced"),
        ("/v1/embeddings", "text-embedding-3-large", "priced"),
    ],
    speech: [
        *[("/v1/audio/speech", "gpt-4o-mini-tts", "estimated")] * 2,
        ("/v1/audio/speech", "gpt-4o-mini-tts", "priced"),
    ],
    transcriptions: [
        *[("/v1/audio/transcriptions", "whisper-1", "priced")] * 2,
        ("/v1/audio/transcriptions", "gpt-4o-transcribe", "estimated"),
        ("/v1/audio/transcriptions", "gpt-4o-mini-transcribe", "priced"),
        ("/v1/audio/transcriptions", "gpt-4o-transcribe-diarize", "priced"),
    ],
    translations: [("/v1/audio/translations", "whisper-1", "estimated")],
    images: [(f"/v1/images/{kind}", "gpt-image-1", "priced") for kind in ("generations", "edits") for _ in range(2)],
    image_variations: [("/v1/images/variations", "", "priced")],
    moderations: [("/v1/moderations", "omni-moderation-latest", "free")],
    models: [("/v1/models", "", "free"), ("/v1/models/{id}", "", "free")],
}


def row_of(row: dict[str, Any]) -> Row:
    """Returns a row's route, its model, and how its usage is known, as in `CALLS`; asserts that the row has a cost."""
    assert row["cost"] is not None
    if row["usage_source"] == "estimated":
        assert row["usage"] is None
        assert row["input_tokens"] or row["output_tokens"] or row["audio_seconds"]
        assert row["cost"] > 0
        known = "estimated"
    elif row["usage_source"] != "exact":
        assert (row["input_tokens"], row["usage"]) == (None, None)
        assert row["cost"] == 0
        known = "free"
    elif row["price"] == {"source": "counted before"}:
        assert row["cost"] == 0
        known = "repeated"
    else:
        assert row["input_tokens"] or row["audio_seconds"] or row["other_usage"]["pictures"]
        assert row["cost"] > 0
        known = "priced"
    return row["route"], row["request_model"], known
