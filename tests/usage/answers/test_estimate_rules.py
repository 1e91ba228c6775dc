"""Estimates of tokens: by the text that has come, by time, by reasoning effort, and of calls that were interrupted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.ledger.ledgers import call_id
from usage.answers.estimate_rules import (
    MAX_INTERRUPTED_INPUT_TOKENS,
    REASONING_TOKENS,
    TOKENS_PER_SECOND,
    at_least,
    estimate_interrupted,
    limited_to_time,
    reasoning_tokens,
    tokens_of_text,
)
from usage.call_record import CallRecord, OtherUsage, SupposedUsage


def test_it_works() -> None:
    assert [tokens_of_text(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gpt-5", None, REASONING_TOKENS["medium"]),
        ("gpt-5", "low", REASONING_TOKENS["low"]),
        ("GPT-5-mini", "high", REASONING_TOKENS["high"]),
        ("gpt-5", "beyond", REASONING_TOKENS["medium"]),
        ("gpt-5", {"odd": 1}, REASONING_TOKENS["medium"]),
        ("gpt-5-pro-2025-10-06", None, REASONING_TOKENS["high"]),
        ("gpt-5.1", None, 0),
        ("gpt-5.1", "medium", REASONING_TOKENS["medium"]),
        ("gpt-5.1-codex", None, REASONING_TOKENS["medium"]),
        ("gpt-6.1-sol", None, REASONING_TOKENS["medium"]),
        ("o4-mini", None, REASONING_TOKENS["medium"]),
        ("ft:o4-mini:me::1", None, REASONING_TOKENS["medium"]),
        ("gpt-5-chat-latest", None, 0),
        ("gpt-5.3-chat-latest", "high", 0),
        ("gpt-4o", "high", 0),
        ("gpt-rosalind-research", None, REASONING_TOKENS["medium"]),
        ("gemini-2.5-pro", None, REASONING_TOKENS["high"]),
        ("gemini-2.5-flash-preview", "none", 0),
        ("gemini-3-flash-preview", "low", REASONING_TOKENS["low"]),
        ("gemini-4-argon", None, REASONING_TOKENS["medium"]),
        ("gemini-2.5-flash-lite", None, 0),
        ("gemini-3.1-flash-lite", "high", REASONING_TOKENS["high"]),
        ("gemini-2.5-flash-image", None, 0),
        ("gemini-2.5-pro-tts", None, 0),
        ("gemini-3.8-live", None, 0),
        ("gemini-2.0-flash", None, 0),
        ("gemini-embedding-001", None, 0),
        ("grok-4.7", None, REASONING_TOKENS["medium"]),
        ("grok-4-0709", None, REASONING_TOKENS["medium"]),
        ("grok-code-fast-1", None, REASONING_TOKENS["medium"]),
        ("grok-4-1-fast-reasoning", None, REASONING_TOKENS["medium"]),
        ("grok-4-1-fast-non-reasoning", None, 0),
        ("grok-3", None, 0),
        ("claude-opus-5", None, 0),
        ("llama-3", None, 0),
        ("", None, 0),
    ],
)
def test_reasoning_is_a_share_by_model_and_effort(model: str, effort: object, expected: int) -> None:
    assert reasoning_tokens(model, effort) == expected


def test_more_effort_is_more_reasoning() -> None:
    assert sorted(REASONING_TOKENS.values()) == list(REASONING_TOKENS.values())


def test_output_is_limited_by_time() -> None:
    supposed: SupposedUsage = {"input_tokens": 9000, "output_tokens": 9000, "audio_output_tokens": 9000}
    assert limited_to_time(supposed, 2) == {
        "input_tokens": 9000, "output_tokens": 2 * TOKENS_PER_SECOND, "audio_output_tokens": 2 * TOKENS_PER_SECOND,
    }  # fmt: skip
    assert limited_to_time(supposed, 60) == supposed
    assert limited_to_time(supposed, -1)["output_tokens"] == 1  # by a clock that was put back
    assert limited_to_time({"audio_seconds": 3.0}, 0) == {"audio_seconds": 3.0}


def test_an_interrupted_call_has_used_what_was_reserved() -> None:
    begin: CallRecord = {
        "request_id": call_id(datetime.now(UTC) - timedelta(seconds=100)),
        "method": "POST",
        "request_bytes": 10,
        "supposed": {"input_tokens": 70, "output_tokens": 200},
    }
    assert estimate_interrupted(begin) == {"input_tokens": 70, "output_tokens": 200, "usage_source": "estimated"}


def test_an_interrupted_call_has_used_the_hosted_tools_that_were_reserved() -> None:
    """Beside what its request states, on which the price depends."""
    begin: CallRecord = {
        "request_id": call_id(datetime.now(UTC) - timedelta(seconds=100)),
        "method": "POST",
        "other_usage": {"completion_window": "2h"},
        "supposed": {"input_tokens": 70, "output_tokens": 200, "other_usage": {"file_searches": 10}},
    }
    used = estimate_interrupted(begin)
    assert used["other_usage"] == {"completion_window": "2h", "file_searches": 10}


PICTURES: OtherUsage = {"image_tokens": {"output_tokens": 100}, "image_tokens_estimated": True, "image_model": "dear"}


@pytest.mark.parametrize(
    ("supposed", "seen", "used"),
    [
        ({}, {}, {}),
        ({"file_searches": 10}, {}, {"file_searches": 10}),
        ({}, {"file_searches": 3}, {"file_searches": 3}),
        ({"file_searches": 10}, {"file_searches": 3}, {"file_searches": 10}),
        ({"file_searches": 10}, {"file_searches": 12}, {"file_searches": 12}),
        ({"containers": ["64g"]}, {"containers": ["1g"]}, {"containers": ["64g"]}),
        ({"containers": ["1g"]}, {"containers": ["4g", "4g"]}, {"containers": ["4g", "4g"]}),
        (PICTURES, {}, PICTURES),
        (PICTURES, {"image_tokens": {"output_tokens": 99}, "image_model": "other"}, PICTURES),
        (
            PICTURES,
            {"image_tokens": {"output_tokens": 101}, "image_model": "other"},
            {**PICTURES, "image_tokens": {"output_tokens": 101}, "image_tokens_estimated": False},
        ),
        (
            PICTURES,
            {"image_tokens": {"output_tokens": 101}, "image_tokens_estimated": True},
            {**PICTURES, "image_tokens": {"output_tokens": 101}},
        ),
        ({}, PICTURES, PICTURES),
        ({"search_tool": "web_search_preview"}, {"search_tool": "web_search"}, {"search_tool": "web_search_preview"}),
        ({"file_searches": 1}, {"completion_window": "8h"}, {"completion_window": "8h", "file_searches": 1}),
    ],
)
def test_what_was_seen_counts_at_least(supposed: OtherUsage, seen: OtherUsage, used: OtherUsage) -> None:
    found = at_least({"output_tokens": 5, "other_usage": supposed}, {"output_tokens": 4, "web_searches": 2}, seen)
    assert found == {"output_tokens": 5, "web_searches": 2, "other_usage": used}


@pytest.mark.parametrize(
    ("method", "size", "tokens"), [("POST", 4000, 1000), ("POST", 10**9, MAX_INTERRUPTED_INPUT_TOKENS)]
)
def test_without_a_reservation_its_input_is_estimated(method: str, size: int, tokens: int) -> None:
    begin: CallRecord = {"request_id": call_id(), "method": method, "request_bytes": size}
    estimate = {"input_tokens": tokens, "output_tokens": 0, "usage_source": "estimated"}
    assert estimate_interrupted(begin) == estimate


@pytest.mark.parametrize("begin", [{"method": "GET", "request_bytes": 5}, {"method": "POST"}, {}])
def test_nothing_is_estimated_of_a_call_of_which_nothing_is_known(begin: CallRecord) -> None:
    assert estimate_interrupted({"request_id": call_id(), **begin}) == {}
