"""Simulated embeddings, audio, images, models and moderations."""

import base64
import json
import struct
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.simulator import (
    Simulator,
)
from tests.simulator_tests.examples import ASK, AUDIO, PERSON, WEATHER, events_of


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
    with pytest.deprecated_call():
        varied = client.images.create_variation(image=("a.png", b"x", "image/png"), n=2, response_format="b64_json")
    assert [one.b64_json for one in varied.data or []] == [image.data[0].b64_json] * 2


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
