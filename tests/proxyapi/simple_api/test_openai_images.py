"""The image of `POST /openai`: it joins the last user message, as a URL or as base64 with its media type."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.simulator.server import Simulator
from tests.support.servers.gateway import Gateway

MODEL = "gpt-4o-mini"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
URL = "https://example.com/image.png"
URL_PART = {"type": "image_url", "image_url": {"url": URL}}


def encoded(start: bytes) -> str:
    return base64.b64encode(start + bytes(range(40))).decode()


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
