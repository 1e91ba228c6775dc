"""What a model makes beside the text of its answers counts for each answer, however the request asks for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxyapi.limits.usage_estimates import (
    counts_of_streamed_text,
    counts_of_whole_stream,
    effort_in,
    hidden_tokens,
    most_of_stream,
    usage_of_answer,
    usage_without_answer,
)
from usage.answers.estimate_rules import (
    REASONING_TOKENS,
    REASONING_TOKENS_PER_SECOND,
    TOKENS_PER_SECOND,
    reasoning_tokens,
)
from usage.answers.streamed_text import StreamedText
from usage.money.billing import MaxUsage

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
    assert usage_without_answer(MOST, "gpt-4o", 2, answers=8)["output_tokens"] == 16 * TOKENS_PER_SECOND
    pictures = MaxUsage(5, 10**7, images=10)
    assert usage_without_answer(pictures, "gpt-image-1", 2)["output_tokens"] == 20 * TOKENS_PER_SECOND


def test_of_pictures_in_a_chat_the_time_tells() -> None:
    most = MaxUsage(5000, 10**7, kinds=frozenset({"image_output"}))
    left = most_of_stream(most, "gemini-2.5-flash-image", StreamedText(0), 0, b"{}", 3)
    assert left["output_tokens"] == 3 * TOKENS_PER_SECOND


def test_a_rejected_prediction_is_output() -> None:
    """It is in no text of the answer."""
    body = {"n": 2, "prediction": {"type": "content", "content": "x" * 40_000}}
    counts = counts_of_streamed_text("gpt-4o", 0, 0, json.dumps(body).encode(), shows_reasoning=False)
    assert (counts["output_tokens"] or 0) > 20_000
    assert hidden_tokens("gpt-4o", {"prediction": [None]}) == 0


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
