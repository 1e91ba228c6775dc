"""What is supposed of a call whose usage is not known: never more than its ceiling, and what the ceiling costs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.cost_ceiling import FRAME_TOKENS, SUPPOSED_SEARCHES, ceiling_of
from proxyapi.limits.request_content import Form
from proxyapi.limits.usage_estimates import (
    counts_of_streamed_text,
    counts_of_whole_stream,
    effort_in,
    length_of_files,
    most_of_stream,
    most_usage,
    supposed_tool_use,
    supposed_usage,
    usage_of_answer,
    usage_without_answer,
    with_length,
)
from proxyapi.routes import find_route
from usage.answers.estimate_rules import REASONING_TOKENS, TOKENS_PER_SECOND
from usage.call_record import CallRecord, Counts, OtherUsage, SupposedUsage
from usage.money.billing import MaxUsage, dearest_picture_model, highest_cost, price_call
from usage.prices.price_lookup import find_rates, listed_models

NOW = datetime(2026, 11, 28, tzinfo=UTC)
SOUND_PART = {"type": "input_audio", "input_audio": {"data": "A" * 9000, "format": "mp3"}}
MP3 = b"\xff\xfb\x90\0"  # 128 kbit/s
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def asking(content: object, **members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **members}


CALLS: dict[str, tuple[str, dict[str, Any] | Form]] = {
    "chat": ("/chat/completions", asking("hi", model="gpt-4o-mini", max_tokens=200)),
    "chat without a limit": ("/chat/completions", asking("hi", model="gpt-5")),
    "choices": ("/chat/completions", asking("hi", model="gpt-4o", max_tokens=10, n=3)),
    "picture": ("/chat/completions", asking([PICTURE], model="gpt-4o", max_tokens=10)),
    "sound": ("/chat/completions", asking([SOUND_PART], model="gpt-audio", max_tokens=10)),
    "speaking": ("/chat/completions", asking("hi", model="gpt-audio", modalities=["text", "audio"], max_tokens=10)),
    "text of an audio model": ("/chat/completions", asking("hi", model="gpt-audio", max_tokens=10)),
    "response": ("/responses", {"model": "gpt-5-mini", "input": "hi", "max_output_tokens": 50}),
    "search": ("/responses", {"model": "gpt-5", "input": "hi", "tools": [{"type": "web_search"}]}),
    "preview search": (
        "/responses",
        {"model": "gpt-4o", "input": "hi", "max_output_tokens": 9, "tools": [{"type": "web_search_preview"}]},
    ),
    "file search": (
        "/responses",
        {"model": "gpt-5-nano", "input": "hi", "max_output_tokens": 9, "tools": [{"type": "file_search"}]},
    ),
    "picture tool": (
        "/responses",
        {
            "model": "gpt-5-nano",
            "input": "hi",
            "max_output_tokens": 9,
            "max_tool_calls": 3,
            "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
        },
    ),
    "picture tool of no model": (
        "/responses",
        {"model": "gpt-5-nano", "input": "hi", "max_output_tokens": 9, "tools": [{"type": "image_generation"}]},
    ),
    "every tool": (
        "/responses",
        {
            "model": "gpt-4o",
            "input": "hi",
            "max_output_tokens": 9,
            "tools": [
                {"type": "image_generation", "model": "gpt-image-1"},
                {"type": "file_search"},
                {"type": "web_search"},
                {"type": "code_interpreter", "container": {"type": "auto"}},
            ],
        },
    ),
    "embedding": ("/embeddings", {"model": "text-embedding-3-small", "input": "hi " * 50}),
    "old completion": ("/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi", "max_tokens": 9}),
    "image": ("/images/generations", {"model": "gpt-image-1", "prompt": "a cat"}),
    "whisper": ("/audio/transcriptions", Form.of([("model", "whisper-1"), ("response_format", "srt")], [50_000])),
    "transcript": ("/audio/transcriptions", Form.of([("model", "gpt-4o-transcribe")], [50_000])),
}


def body_of(name: str) -> JSONBody | Form:
    body = CALLS[name][1]
    return body if isinstance(body, Form) else JSONBody.parse(json.dumps(body).encode())


def cost_of(route: str, model: str, counts: Counts) -> Decimal | None:
    row: CallRecord = {
        "method": "POST", "route": f"/v1{route}", "request_model": model, "started_at": NOW, "outcome": "timeout",
        "usage": None, "usage_source": "estimated",
    }  # fmt: skip
    row.update(cast(CallRecord, counts))
    return price_call(row, [])[0]


@pytest.mark.parametrize("name", CALLS)
def test_it_costs_no_more_than_what_is_reserved(name: str) -> None:
    """And nearly as much, if upstream had all the time that it could need."""
    path, body = CALLS[name][0], body_of(name)
    ceiling = ceiling_of("POST", find_route(path), body)
    assert ceiling is not None
    given = CALLS[name][1]
    model = given.fields["model"][0] if isinstance(given, Form) else given["model"]
    reserved = highest_cost(model, "", NOW, ceiling.max_usage, [])
    assert reserved is not None

    most = most_usage("POST", find_route(path), body, 0)
    assert most == ceiling.max_usage
    supposed = cost_of(path, model, usage_without_answer(most, model, 10_000))
    assert supposed is not None
    assert reserved * Decimal("0.7") <= supposed <= reserved * Decimal("1.01")
    soon = cost_of(path, model, usage_without_answer(most, model, 0))
    assert soon is not None
    assert 0 < soon <= supposed


TOOLS = MaxUsage(
    100, 50, web_searches=4, file_searches=6, pictures=2, picture_models=frozenset({"gpt-image-1"}), containers=("4g",)
)
SUPPOSED_OF_TOOLS: OtherUsage = {
    "image_tokens": {
        "input_tokens": 2 * 16_384, "input_tokens_details": {"text_tokens": 0, "image_tokens": 2 * 16_384},
        "output_tokens": 2 * 24_576, "output_tokens_details": {"text_tokens": 0, "image_tokens": 2 * 24_576},
    },
    "image_tokens_estimated": True,
    "image_model": "gpt-image-1",
    "file_searches": 6,
    "containers": ["4g"],
}  # fmt: skip


@pytest.mark.parametrize(
    "used",
    [
        supposed_usage(TOOLS, "gpt-5"),
        usage_without_answer(TOOLS, "gpt-5", 0.1),
        usage_of_answer(TOOLS, "gpt-5", 40, {}),
        most_of_stream(TOOLS, "gpt-5", None, 40, b"{}", 1),
    ],
    ids=["not asked about", "without an answer", "with an odd answer", "a stream"],
)
def test_hosted_tools_may_have_done_all_that_was_reserved(used: SupposedUsage) -> None:
    assert (used["web_searches"], used["other_usage"]) == (4, SUPPOSED_OF_TOOLS)


def test_of_several_models_of_pictures_the_dearest_counts() -> None:
    names = frozenset({"gpt-image-1-mini", "gpt-image-1"})
    assert dearest_picture_model(replace(TOOLS, picture_models=names), NOW, []) == "gpt-image-1"
    assert dearest_picture_model(TOOLS, NOW, []) == "gpt-image-1"


def test_a_stream_that_goes_on_makes_all_that_it_may() -> None:
    body = json.dumps({"max_output_tokens": 700}).encode()
    assert counts_of_whole_stream("gpt-5", 400, body) == {"input_tokens": 100, "output_tokens": 700}
    assert counts_of_whole_stream("gpt-5", 400, b"{}")["output_tokens"] == 128_000


@pytest.mark.parametrize("path", ["/models", "/moderations", "/responses/input_tokens", "/batches"])
def test_nothing_is_supposed_of_a_call_without_tokens_to_pay(path: str) -> None:
    assert most_usage("POST", find_route(path), JSONBody.parse(b'{"model": "x"}'), 0) is None
    assert most_usage("GET", find_route("/responses/resp_1"), None, 0) is None


def test_a_name_given_twice_does_not_hinder_an_estimate() -> None:
    """Only a reservation refuses it: a call of a key without a budget goes on, and gets its row."""
    body = JSONBody.parse(b'{"model":"gpt-4o","metadata":{"a":"1","a":"2"},"tools":[{"type":"web_search"}]}')
    assert most_usage("POST", find_route("/responses"), body, 0) is not None
    assert supposed_tool_use("POST", find_route("/responses"), body, ()) == {"web_searches": SUPPOSED_SEARCHES}


def test_a_large_body_is_not_searched() -> None:
    body = JSONBody.parse(json.dumps(asking("word " * 100_000, model="gpt-4o", max_tokens=7)).encode())
    most = most_usage("POST", find_route("/chat/completions"), body, 500_000)
    assert most is not None
    assert (most.input_tokens > 250_000, most.output_tokens) == (True, 7)


def test_an_answer_that_came_is_measured() -> None:
    most = MaxUsage(100, 1000)
    assert usage_of_answer(most, "gpt-4o", 400, {})["output_tokens"] == 100
    assert usage_of_answer(most, "gpt-4o", 4_000_000, {})["output_tokens"] == 1000
    assert usage_of_answer(MaxUsage(100, 9000), "gpt-5", 400, {"reasoning_effort": ["low"]})["output_tokens"] == (
        100 + REASONING_TOKENS["low"]
    )


def test_one_that_did_not_come_is_limited_by_time() -> None:
    assert usage_without_answer(MaxUsage(5, 10**30), "gpt-4o", 3)["output_tokens"] == 3 * TOKENS_PER_SECOND


@pytest.mark.parametrize(
    ("model", "body", "size", "output"),
    [
        ("gpt-4o", {}, 0, 0),
        ("gpt-4o", {}, 40, 10),
        ("gpt-5", {}, 40, 10 + REASONING_TOKENS["medium"]),
        ("gpt-5", {}, 0, REASONING_TOKENS["medium"]),
        ("gpt-5", {"reasoning_effort": "high"}, 40, 10 + REASONING_TOKENS["high"]),
        ("gpt-5", {"reasoning": {"effort": "low"}}, 40, 10 + REASONING_TOKENS["low"]),
        ("gpt-5", {"reasoning": "odd", "max_tokens": "many"}, 40, 10 + REASONING_TOKENS["medium"]),
        ("gpt-5", {"max_output_tokens": 100}, 40, 100),
        ("gpt-5", {"max_completion_tokens": 100, "n": 2}, 40, 200),
        ("gpt-5", {"max_completion_tokens": 5}, 40, 10),  # what has come is no guess
    ],
)
def test_a_stream_counts_its_text_and_its_reasoning(model: str, body: dict[str, Any], size: int, output: int) -> None:
    raw = json.dumps(body).encode()
    counts = counts_of_streamed_text(model, 400, size, raw, shows_reasoning=False)
    assert counts == {"input_tokens": 100, "output_tokens": output}
    shown = counts_of_streamed_text(model, 400, size, raw, shows_reasoning=True)
    assert shown["output_tokens"] == size // 4


def test_the_effort_given_last_counts() -> None:
    assert effort_in({"reasoning_effort": ["low", None, "high"]}) == "high"
    assert effort_in({"reasoning": [{"effort": "low"}, {"summary": "auto"}]}) == "low"
    assert effort_in({}) is None


def test_speech_is_measured_by_its_text() -> None:
    body = JSONBody.parse(json.dumps({"model": "gpt-4o-mini-tts", "input": "word " * 100, "voice": "alloy"}).encode())
    most = most_usage("POST", find_route("/audio/speech"), body, 0)
    assert most == MaxUsage(125, 1000, kinds=frozenset({"audio_output"}))
    cost = cost_of("/audio/speech", "gpt-4o-mini-tts", usage_without_answer(most, "gpt-4o-mini-tts", 60))
    assert cost == (125 * Decimal("0.6") + 1000 * Decimal(12)) / 1_000_000


def test_whisper_is_billed_by_length() -> None:
    assert supposed_usage(MaxUsage(500, 200, audio_seconds=51), "whisper-1") == {"audio_seconds": 51}


def test_a_known_length_lowers_what_is_supposed() -> None:
    path, body = CALLS["transcript"][0], body_of("transcript")
    most = most_usage("POST", find_route(path), body, 0)
    assert most is not None
    known = with_length(most, 4.2)
    assert known.audio_seconds == 5
    assert most.input_tokens - known.input_tokens == (most.audio_seconds - 5) * 10
    assert known.output_tokens == 5 * 5 + FRAME_TOKENS
    assert with_length(most, 10**9) == most


@pytest.mark.parametrize(
    ("files", "seconds"),
    [
        ([(MP3, 16_000)], 1),
        ([(MP3, 16_000), (MP3, 32_000)], 3),
        ([(MP3, 16_000), (b"OggS", 32_000)], None),
        ([], None),
    ],
)
def test_files_say_how_long_they_are(files: list[tuple[bytes, int]], seconds: float | None) -> None:
    assert length_of_files(files) == seconds


def test_sound_is_estimated_by_its_length_for_each_model_with_a_price_by_the_minute() -> None:
    prices = {name: find_rates(name, "default", NOW, ()) for name in listed_models()}
    by_minute = {name for name, price in prices.items() if price is not None and price.is_by_minute_only}
    assert {"whisper-1", "gpt-transcribe"} <= by_minute
    most = MaxUsage(700, 364, 60, kinds=frozenset({"audio_input"}))
    assert {name for name in by_minute if supposed_usage(most, name) != {"audio_seconds": 60}} == set()
