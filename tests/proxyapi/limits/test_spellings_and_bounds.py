"""Requests written so that a reservation could be too low: odd spellings, links, parts of parts, unknown tools."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import OutputLimitExceeded
from proxyapi.limits.cost_ceiling import SPEECH_TOKENS_PER_BYTE, SUPPOSED_TOKENS, ceiling_of, output_ceiling, sound_size
from proxyapi.limits.output_limits import limit_by_key
from proxyapi.limits.request_content import Form
from proxyapi.routes import find_route
from usage.money.billing import MaxUsage, highest_cost
from usage.prices import price_lookup

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


def most_of(path: str, body: dict[str, Any] | Form) -> MaxUsage:
    parsed = body if isinstance(body, Form) else JSONBody.parse(json.dumps(body).encode())
    ceiling = ceiling_of("POST", find_route(path), parsed)
    assert ceiling is not None
    return ceiling.max_usage


def parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {**CHAT, "messages": [{"role": "user", "content": [*parts]}]}


@pytest.mark.parametrize("name", ["n", "N", "n[]", "N[0]", "%6E"])
def test_each_spelling_of_a_number_counts(name: str) -> None:
    form = Form.of([("model", "gpt-image-1"), ("prompt", "x"), ("n", "1"), (name, "7")], [])
    assert most_of("/images/edits", form).images == 7
    assert most_of("/chat/completions", {**CHAT, "n": 1, name: 7}).output_tokens == 70


@pytest.mark.parametrize("name", ["MAX_TOKENS", "Max_Tokens", "max_tokens[]"])
def test_no_other_spelling_lowers_a_limit(name: str) -> None:
    without = {member: value for member, value in CHAT.items() if member != "max_tokens"}
    assert most_of("/chat/completions", {**without, name: 5}).output_tokens == 16_384
    assert most_of("/chat/completions", {**CHAT, name: 5000}).output_tokens == 5000


@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_a_limit_that_some_servers_take_for_none_is_refused(value: int) -> None:
    with pytest.raises(OutputLimitExceeded):
        limit_by_key(find_route("/chat/completions"), JSONBody.parse(b'{"max_tokens": %d}' % value), 100)


def test_a_legacy_completion_may_return_its_prompt_only() -> None:
    assert limit_by_key(find_route("/completions"), JSONBody.parse(b'{"max_tokens": 0}'), 100) is None
    with pytest.raises(OutputLimitExceeded):
        limit_by_key(find_route("/completions"), JSONBody.parse(b'{"max_tokens": -1}'), 100)


@pytest.mark.parametrize(
    "kind", ["x_search", "google_search", "openrouter:web_fetch", "browser_search", "tool_of_2027"]
)
def test_a_tool_that_nobody_knows_reads_as_much_as_others(kind: str) -> None:
    body = {"model": "gpt-5", "input": "hi", "max_output_tokens": 10}
    own = [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"name": "g"}, {"type": "apply_patch"}]
    without = most_of("/responses", {**body, "tools": own}).input_tokens
    assert without < 200
    assert most_of("/responses", {**body, "tools": [*own, {"type": kind}]}).input_tokens > without + SUPPOSED_TOKENS


@pytest.mark.parametrize("kind", ["video_url", "audio_url", "document", "file_url"])
def test_content_behind_a_link_is_supposed(kind: str) -> None:
    linked = {"type": kind, kind: {"url": "https://a.example/b"}}
    assert most_of("/chat/completions", parts(linked)).input_tokens > SUPPOSED_TOKENS


def test_a_part_in_a_part_is_taken_off_the_text_once() -> None:
    """Its data are no text, and the prompt beside them is."""
    data, prompt = "A" * 100_000, {"type": "text", "text": "B" * 100_000}
    picture = {"type": "input_image", "file_data": data, "url": "https://a.example/b"}
    usage = most_of("/chat/completions", parts({"type": "image_url", "image_url": picture}, prompt))
    assert usage.input_tokens > 100_000


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image-preview", "gemini-nano-banana-2.1"])
def test_a_chat_model_may_answer_with_pictures(model: str) -> None:
    usage = most_of("/chat/completions", {**CHAT, "model": model, "max_tokens": 1_000_000})
    rates = price_lookup.find_rates(model, "default", NOW, ())
    assert rates is not None
    picture = rates.rate("image_output", 0)
    assert picture is not None
    cost = highest_cost(model, "", NOW, usage, [])
    assert cost is not None
    assert cost >= picture


def flac(seconds: int, rate: int) -> bytes:
    return b"fLaC\x80\0\0\x22" + bytes(10) + struct.pack(">Q", rate << 44 | seconds * rate) + bytes(16)


def test_a_small_file_of_long_silence_is_as_long_as_it_says() -> None:
    head = flac(3600, 16_000)
    form = Form.of([("model", "whisper-1")], [sound_size(head, 20_000)])
    assert most_of("/audio/transcriptions", form).audio_seconds == 3601
    assert sound_size(head, 10_000_000) == 10_000_000
    assert sound_size(flac(10**6, 1000), 60) == 60_000  # no file has more seconds than bytes
    assert sound_size(b"\x89PNG", 60) == 60


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (Form.of([("model", "whisper-1"), ("url", "https://a.example/b.mp3")], []), 26_000),
        ({"model": "whisper-1", "file": "A" * 4_000_000}, 3000),
        ({"model": "whisper-1", "input_audio": {"data": "A" * 4_000_000}}, 3000),
    ],
)
def test_sound_that_is_no_file_of_a_form(body: Any, seconds: float) -> None:
    assert most_of("/audio/transcriptions", body).audio_seconds > seconds


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("openai/gpt-5", 128_000), ("anthropic/claude-opus-5", 128_000), ("ft:gpt-4.1:a/b", 32_768), ("a/b", 131_072)],
)
def test_a_vendor_before_the_name_changes_no_ceiling(model: str, tokens: int) -> None:
    assert output_ceiling(model) == tokens


def test_a_text_of_a_form_that_is_not_kept_counts() -> None:
    long = Form.of([("model", "gpt-4o-mini-tts"), ("input", "a" * 1000), ("stream_format", "sse")], [], 5000)
    usage = most_of("/audio/speech", long)
    assert usage.input_tokens > 5000
    assert usage.output_tokens >= 6000 * SPEECH_TOKENS_PER_BYTE
    in_file = Form.of([("model", "gpt-4o-mini-tts"), ("stream_format", "sse")], [6000])
    assert most_of("/audio/speech", in_file).output_tokens >= 6000 * SPEECH_TOKENS_PER_BYTE
