"""The estimate of a stream of a key with a budget that was cut or left: never less than it can have used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxyapi.limits.usage_estimates import most_of_stream
from usage.answers.estimate_rules import REASONING_TOKENS, REASONING_TOKENS_PER_SECOND, TOKENS_PER_SECOND
from usage.answers.streamed_text import StreamedText
from usage.money.billing import MaxUsage

MOST = MaxUsage(5000, 100_000)


def text_of(*pieces: str, member: str = "content", limit: int = 16_384) -> StreamedText:
    text = StreamedText(limit)
    for piece in pieces:
        text.feed({"choices": [{"index": 0, "delta": {member: piece}}]})
    return text


def output(model: str, text: StreamedText | None, seconds: float = 0, **body: Any) -> int | None:
    counts = most_of_stream(MOST, model, text, 400, json.dumps(body).encode(), seconds)
    assert counts["input_tokens"] == MOST.input_tokens
    return counts["output_tokens"]


@pytest.mark.parametrize(
    ("text", "tokens"), [("plain words ", 60), ("1,0,", 40), ("R0lGODlh", 65), ("ꙮ", 30)]
)  # words: half a token a byte; anything else: one
def test_text_counts_the_most_that_it_can_be(text: str, tokens: int) -> None:
    assert output("gpt-4o", text_of(text * 5, text * 5)) == tokens


def test_text_that_is_not_kept_counts_a_token_a_byte() -> None:
    kept = text_of("a" * 100_000, limit=0)
    assert output("gpt-4o", kept) is not None
    assert (output("gpt-4o", kept) or 0) > 95_000


@pytest.mark.parametrize("model", ["gpt-5", "gemini-4-argon", "gemini-2.5-pro", "grok-4.7", "gpt-rosalind-research"])
def test_each_vendor_s_model_may_have_reasoned_all_the_time(model: str) -> None:
    assert output(model, text_of(), 100) == 100 * REASONING_TOKENS_PER_SECOND


def test_a_model_may_have_reasoned_all_the_time() -> None:
    assert output("gpt-5", text_of(), 0.1, reasoning_effort="low") == REASONING_TOKENS["low"]
    assert output("gpt-5", text_of("0" * 900), 5, reasoning_effort="minimal") == 5 * REASONING_TOKENS_PER_SECOND
    assert output("gpt-5", text_of("0" * 900, member="reasoning_content"), 100) == 900
    assert output("gpt-5", text_of(), 10**9) == MOST.output_tokens


def test_a_model_that_does_not_reason_has_made_what_came() -> None:
    assert output("gpt-4o", text_of(), 100) == 0
    assert output("gpt-4o", None, 100) == 100  # an answer that came whole, as no stream


def test_of_sound_the_time_tells() -> None:
    most = MaxUsage(5000, 100_000, web_searches=10, kinds=frozenset({"audio_output"}))
    counts = most_of_stream(most, "gpt-audio", text_of("hi"), 0, b"{}", 2)
    assert counts["output_tokens"] == counts["audio_output_tokens"] == 2 * TOKENS_PER_SECOND
    assert counts["web_searches"] == 10  # some may have begun after the last event that came
