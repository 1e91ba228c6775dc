"""What a model makes beside the text of its answers counts for each answer, however the request asks for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.request_content import Form
from proxyapi.limits.usage_estimates import (
    MOST_ANSWERS,
    MOST_INPUT_TOKENS,
    MOST_SOUND_SECONDS,
    counts_of_streamed_text,
    counts_of_whole_stream,
    effort_in,
    hidden_tokens,
    most_of_stream,
    most_usage,
    supposed_usage,
    usage_of_answer,
    usage_without_answer,
)
from proxyapi.routes import find_route
from tests.support.ledger.ledgers import call_id
from usage.answers.estimate_rules import (
    REASONING_TOKENS,
    REASONING_TOKENS_PER_SECOND,
    TOKENS_PER_SECOND,
    estimate_interrupted,
    reasoning_tokens,
)
from usage.answers.streamed_text import StreamedText
from usage.call_record import CallRecord
from usage.journal_shipping.background_responses import supposed_by
from usage.models import PendingResponse
from usage.money.billing import MaxUsage, price_call

NOW = datetime(2026, 11, 28, tzinfo=UTC)
MOST = MaxUsage(5000, 10**7)
SEVERAL: list[tuple[dict[str, Any], int]] = [
    ({}, 1), ({"n": 8}, 8), ({"n": "8"}, 8), ({"n": 8.0}, 8), ({"multi_agent": {"enabled": True}}, 4),
]  # fmt: skip


@pytest.mark.parametrize(("body", "answers"), SEVERAL)
def test_each_answer_has_its_reasoning(body: dict[str, Any], answers: int) -> None:
    raw, medium = json.dumps(body).encode(), REASONING_TOKENS["medium"]
    fields = {name: [value] for name, value in body.items()}
    left = most_of_stream(MOST, "gpt-5", StreamedText(0), 0, raw, 100)
    assert left["output_tokens"] == 100 * REASONING_TOKENS_PER_SECOND * answers
    assert most_of_stream(MOST, "gpt-5", StreamedText(0), 0, raw, 0)["output_tokens"] == medium * answers
    counts = counts_of_streamed_text("gpt-5", 0, 0, raw, shows_reasoning=False)
    assert counts["output_tokens"] == medium * answers
    assert usage_of_answer(MOST, "gpt-5", 0, fields)["output_tokens"] == medium * answers
    assert counts_of_whole_stream("gpt-5", 0, raw)["output_tokens"] == 128_000 * answers


def test_answers_and_pictures_are_made_at_the_same_time() -> None:
    """Also where their process was killed, or a background response is given up: what is stored says how many."""
    choices = JSONBody.parse(json.dumps({"model": "gpt-4o", "messages": [], "n": 8}).encode())
    prompts = JSONBody.parse(json.dumps({"model": "gpt-3.5-turbo-instruct", "prompt": ["x"] * 4, "n": 2}).encode())
    agents = JSONBody.parse(
        json.dumps({"model": "gpt-5", "multi_agent": {"enabled": True, "max_concurrent_subagents": 7}}).encode()
    )
    pictures = JSONBody.parse(json.dumps({"model": "gpt-image-1", "n": 8}).encode())
    for path, body in (
        ("/chat/completions", choices),
        ("/completions", prompts),
        ("/responses", agents),
        ("/images/generations", pictures),
    ):
        most = most_usage("POST", find_route(path), body, 0)
        assert most is not None
        assert usage_without_answer(most, "m", 2)["output_tokens"] == 16 * TOKENS_PER_SECOND, path
        began = datetime.now(UTC) - timedelta(seconds=2)
        killed = estimate_interrupted({"request_id": call_id(began), "supposed": supposed_usage(most, "m")})
        assert (killed["output_tokens"] or 0) >= 16 * TOKENS_PER_SECOND, path
        pending = PendingResponse(supposed=supposed_usage(most, "m"), created_at=began)
        made = supposed_by(pending, began, 0, began + timedelta(seconds=2))["output_tokens"]
        assert made == 16 * TOKENS_PER_SECOND, path


def test_of_pictures_in_a_chat_the_time_tells() -> None:
    most = MaxUsage(5000, 10**7, kinds=frozenset({"image_output"}))
    left = most_of_stream(most, "gemini-2.5-flash-image", StreamedText(0), 0, b"{}", 3)
    assert left["output_tokens"] == 3 * TOKENS_PER_SECOND


def test_a_rejected_prediction_is_output() -> None:
    """It is in no text of the answer."""
    body = {"prediction": {"type": "content", "content": "x" * 40_000}}
    counts = counts_of_streamed_text("gpt-4o", 0, 0, json.dumps(body).encode(), shows_reasoning=False)
    assert (counts["output_tokens"] or 0) > 10_000
    assert hidden_tokens("gpt-4o", {"prediction": [None]}, 1) == 0


@pytest.mark.parametrize(
    ("request_members", "effort"),
    [
        ({"reasoning_effort": "high", "reasoning": {"effort": "none"}}, "high"),
        ({"reasoning_effort": "none", "reasoning": {"effort": "high"}}, "high"),
        ({"reasoning_effort": "odd", "reasoning": {"effort": "low"}}, "low"),
        ({"reasoning_effort": "odd"}, "odd"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "high"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10**30}}, "max"),
        ({"thinking": {"type": "adaptive"}}, "medium"),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": "odd"}, None),
        ({"reasoning": {"enabled": True}}, "medium"),
        ({"reasoning": {"max_tokens": 400, "effort": "minimal"}}, "low"),
        ({}, None),
    ],
)
def test_the_highest_effort_counts(request_members: dict[str, Any], effort: object) -> None:
    assert effort_in({name: [value] for name, value in request_members.items()}) == effort


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gpt-5", "none", "medium"), ("gpt-5-mini-2025-08-07", "none", "medium"), ("o3", "none", "medium"),
        ("gpt-5-pro", "none", "high"), ("gemini-2.5-pro", "none", "high"), ("gpt-5.2-codex", "none", "medium"),
        ("gpt-5.1", "none", "none"), ("gpt-6.1-sol", "none", "none"), ("gemini-2.5-flash", "none", "none"),
        ("openai/gpt-5", None, "medium"), ("openrouter/openai/gpt-5-chat-latest", None, "none"),
        ("models/gemini-2.5-pro", "low", "low"), ("openai/gpt-oss-120b", None, "medium"),
        ("claude-opus-5", "high", "high"), ("anthropic/claude-opus-5", "medium", "medium"),
        ("claude-opus-5", None, "none"), ("claude-opus-5", "none", "none"),
    ],
)  # fmt: skip
def test_what_a_model_reasons(model: str, effort: object, expected: str) -> None:
    assert reasoning_tokens(model, effort) == REASONING_TOKENS[expected]


def test_no_request_makes_an_estimate_absurd() -> None:
    """Whoever leaves before upstream refuses a million choices has used next to nothing."""
    body = json.dumps({"n": 10**6, "multi_agent": {"enabled": True, "max_concurrent_subagents": 10**30}}).encode()
    absurd = MaxUsage(5, 10**12, images=10**6)
    choices = MaxUsage(5, 10**12, answers=10**6)
    assert usage_without_answer(absurd, "gpt-image-1", 0.1)["output_tokens"] == MOST_ANSWERS * 100
    assert usage_without_answer(choices, "gpt-4o", 0.1)["output_tokens"] == MOST_ANSWERS * 100
    counts = counts_of_streamed_text("gpt-5", 0, 0, body, shows_reasoning=False)
    assert counts["output_tokens"] == MOST_ANSWERS * REASONING_TOKENS["medium"]
    assert counts_of_whole_stream("gpt-5", 0, body)["output_tokens"] == MOST_ANSWERS * 128_000
    # Of a key with a budget, all of it was reserved, and is its own.
    assert most_of_stream(absurd, "gpt-5", StreamedText(0), 0, body, 0)["output_tokens"] == 10**6 * 2000
    tools = JSONBody.parse(json.dumps({"model": "gpt-5", "input": "x", "tools": [{"type": "mcp"}] * 10_000}).encode())
    most = most_usage("POST", find_route("/responses"), tools, 0)
    assert most is not None
    assert most.input_tokens == MOST_INPUT_TOKENS
    assert (
        counts_of_streamed_text("gpt-4o", 10**9, 0, b"{}", shows_reasoning=False)["input_tokens"] == MOST_INPUT_TOKENS
    )
    assert counts_of_whole_stream("gpt-4o", 10**9, b"{}")["input_tokens"] == MOST_INPUT_TOKENS


@pytest.mark.parametrize(
    ("path", "body", "dollars"),
    [
        ("/responses", {"model": "gpt-5", "input": "x", "tools": [{"type": "image_generation"}]}, 10),
        ("/responses", {"model": "gpt-5", "input": "x", "tools": [{"type": "web_search"}]}, 3),
        ("/responses", {"model": "gpt-5", "input": "x", "tools": [{"type": "file_search"}]}, 3),
        ("/images/generations", {"model": "gpt-image-1", "prompt": "x", "n": 10**6, "partial_images": 10**6}, 3),
    ],
)
def test_whoever_leaves_at_once_has_not_spent_a_fortune(path: str, body: dict[str, Any], dollars: int) -> None:
    """One such call of a key without a budget was filed for $868,352."""
    parsed = JSONBody.parse(json.dumps({**body, "max_tool_calls": 10**6}).encode())
    most = most_usage("POST", find_route(path), parsed, 0)
    assert most is not None
    used = usage_without_answer(most, body["model"], 0.1)
    row: CallRecord = {"request_model": body["model"], "route": f"/v1{path}", "method": "POST", "started_at": NOW}
    cost, _ = price_call(cast(CallRecord, {**row, "usage_source": "estimated", **used}), ())
    assert cost is not None
    assert cost < dollars


def test_a_false_length_of_sound_has_an_end() -> None:
    form = Form.of([("model", "whisper-1")], [10**9])
    most = most_usage("POST", find_route("/audio/transcriptions"), form, 0)
    assert most is not None
    assert most.audio_seconds == MOST_SOUND_SECONDS
    assert 0 < most.input_tokens < 10 * MOST_SOUND_SECONDS + 100
