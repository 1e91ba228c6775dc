"""What hosted tools cost beside tokens is in the reservation: a call that uses them as supposed costs no more.

The costs are those of the published prices, computed by hand. Source: developers.openai.com/api/docs/pricing, "Built-in
tools", read 2026-11-28.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.cost_ceiling import SUPPOSED_TOKENS, ceiling_of, output_ceiling
from proxyapi.limits.output_limits import MOST_COUNTED, count_in
from proxyapi.routes import find_route
from usage.answers.estimate_rules import reasoning_tokens
from usage.money.billing import highest_cost
from usage.prices.price_corrections import corrections
from usage.prices.price_lookup import find_rates

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


def reserved(path: str, body: dict[str, Any]) -> Decimal:
    ceiling = ceiling_of("POST", find_route(path), JSONBody.parse(json.dumps(body).encode()))
    assert ceiling is not None
    costs = [highest_cost(model, "", NOW, ceiling.max_usage, []) for model in ceiling.models]
    return max(cost for cost in costs if cost is not None)


def reserved_with(model: str, **tool: Any) -> Decimal:
    return reserved("/responses", {"model": model, "input": "hi", "max_output_tokens": 10, "tools": [tool]})


@pytest.mark.parametrize(
    ("model", "tool", "dollars"),
    [
        ("gpt-5", {"type": "web_search"}, "0.10"),  # ten searches for $0.01 each
        ("gpt-4o", {"type": "web_search_preview"}, "0.25"),  # for $0.025 each: the model does not reason
        ("gpt-5", {"type": "web_search_preview"}, "0.10"),
        ("gpt-4o-mini", {"type": "web_search"}, "0.262"),  # as the preview's, and 8,000 input tokens for each
        ("gpt-5", {"type": "file_search", "vector_store_ids": ["vs_1"]}, "0.025"),
        ("gpt-5", {"type": "code_interpreter", "container": {"type": "auto"}}, "0.03"),  # 20 minutes
        ("gpt-5", {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}, "1.92"),
        ("gpt-5", {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}, "0.48"),
        ("gpt-5", {"type": "code_interpreter", "container": "cntr_1"}, "0.03"),
        ("gpt-5", {"type": "code_interpreter", "container": {"memory_limit": "odd"}}, "0.03"),
    ],
)
def test_fees_of_tools_are_reserved(model: str, tool: dict[str, Any], dollars: str) -> None:
    same_tokens = reserved_with(model, type="mcp", server_label="a")
    fees = reserved_with(model, **tool) - same_tokens
    assert abs(fees - Decimal(dollars)) < Decimal("0.001")  # the requests are not of the same length


@pytest.mark.parametrize(
    ("model", "dollars"),
    [("gpt-4o-search-preview", "0.025"), ("gpt-4o-mini-search-preview", "0.025"), ("gpt-5-search-api", "0.01")],
)
def test_a_search_model_searches_in_each_call(model: str, dollars: str) -> None:
    assert reserved("/chat/completions", {**CHAT, "model": model}) > Decimal(dollars)


def test_tools_in_the_input_are_reserved() -> None:
    """Found by a tool search, they are sent back in an item of the input."""
    body = {"model": "gpt-5", "max_output_tokens": 10, "tools": [{"type": "tool_search"}]}
    item = {"type": "tool_search_output", "tools": [{"type": "image_generation", "model": "gpt-image-1"}]}
    with_tool, without = (reserved("/responses", {**body, "input": [one]}) for one in (item, {**item, "tools": []}))
    assert with_tool - without > Decimal("0.6")


def test_tools_are_reserved_once_wherever_they_are_named_again() -> None:
    tool = {"type": "mcp", "server_label": "docs"}
    offered = {"model": "gpt-5", "input": "hi", "max_output_tokens": 10, "tools": [tool]}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [tool]}
    a_tool = reserved("/responses", offered) - reserved("/responses", {**offered, "tools": []})
    for more in ({"tool_choice": choice}, {"tools": [{"type": "namespace", "tools": [tool]}]}):
        assert reserved("/responses", {**offered, **more}) - reserved("/responses", offered) < a_tool / 10


@pytest.mark.parametrize(
    ("agents", "answers"),
    [
        ({"enabled": True}, 4), ({"enabled": True, "max_concurrent_subagents": 7}, 8), ({"enabled": False}, 1),
        ({"enabled": True, "max_concurrent_subagents": "9"}, 10), (None, 1), ("odd", 1),
    ],
)  # fmt: skip
def test_each_agent_is_reserved(agents: object, answers: int) -> None:
    body = {"model": "gpt-5.6-sol", "input": "hi", "max_output_tokens": 100, "multi_agent": agents}
    most = ceiling_of("POST", find_route("/responses"), JSONBody.parse(json.dumps(body).encode()))
    assert most is not None
    assert most.max_usage.output_tokens == 100 * answers
    assert most.max_usage.input_tokens // SUPPOSED_TOKENS == answers - 1


@pytest.mark.parametrize(
    ("item", "is_stored"),
    [
        ({"type": "item_reference"}, True),
        ({}, True),  # as an item reference may be written
        ({"type": None}, True),
        ({"type": "message", "role": "assistant", "status": "completed", "content": []}, True),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "thought"}]}, True),
        ({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, False),
        ({"type": "message", "role": "assistant", "content": "hi"}, False),
        ({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}, False),
    ],
)
def test_stored_items_are_reserved(item: dict[str, Any], is_stored: bool) -> None:
    items = [{**item, "id": f"msg_{number}"} for number in range(9)]
    body = {"model": "gpt-5", "input": items, "max_output_tokens": 10}
    most = ceiling_of("POST", find_route("/responses"), JSONBody.parse(json.dumps(body).encode()))
    assert most is not None
    assert most.max_usage.input_tokens // SUPPOSED_TOKENS == is_stored


def test_stored_audio_and_conversations_are_reserved_once() -> None:
    messages = [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "hi"}]
    chat = {"model": "gpt-audio", "messages": messages, "max_tokens": 10}
    response = {"model": "gpt-5", "input": "hi", "conversation": {"id": "conv_1"}, "max_output_tokens": 10}
    for path, body in (("/chat/completions", chat), ("/responses", response)):
        most = ceiling_of("POST", find_route(path), JSONBody.parse(json.dumps(body).encode()))
        assert most is not None
        assert most.max_usage.input_tokens // SUPPOSED_TOKENS == 1


def test_another_name_of_a_model_is_reserved_as_that_model() -> None:
    """Its longest answer, and what it may have reasoned when its stream was left."""
    for correction in corrections():
        for name in correction.models if correction.same_as else ():
            assert output_ceiling(name) == output_ceiling(correction.same_as), name
            assert reasoning_tokens(name, None) == reasoning_tokens(correction.same_as, None), name


def test_long_cache_writes_are_reserved() -> None:
    """They cost twice the input (developers.openai.com/api/docs/guides/prompt-caching, read 2026-11-28)."""
    body = {"model": "gpt-6-astra", "input": "1" * 100_000, "max_output_tokens": 10}
    price = find_rates("gpt-6-astra", "default", NOW, [])
    assert price is not None
    assert "cache_write" in price.rates
    into = price.rate("input", 100_000)
    assert into is not None
    assert reserved("/responses", body) >= 2 * into * 100_000 / 1_000_000


@pytest.mark.parametrize(
    ("value", "count"),
    [(5, 5), (5.0, 5), (4.2, 5), ("5", 5), ("5.0", 5), (True, 0), (None, 0), ("many", 0), (-3, 0), (float("inf"), 0),
     (float("nan"), 0), ([5], 0), (10**400, MOST_COUNTED)],
)  # fmt: skip
def test_a_number_counts_however_it_is_written(value: object, count: int) -> None:
    assert count_in(value) == count


@pytest.mark.parametrize("answers", [8.0, "8"])
def test_answers_count_however_their_number_is_written(answers: object) -> None:
    most = [
        ceiling_of("POST", find_route(path), JSONBody.parse(json.dumps({**body, "n": answers}).encode()))
        for path, body in (
            ("/chat/completions", {**CHAT, "model": "gpt-4o"}),
            ("/images/generations", {"model": "gpt-image-1", "prompt": "a cat"}),
        )
    ]
    one = [
        ceiling_of("POST", find_route(path), JSONBody.parse(json.dumps(body).encode()))
        for path, body in (
            ("/chat/completions", {**CHAT, "model": "gpt-4o"}),
            ("/images/generations", {"model": "gpt-image-1", "prompt": "a cat"}),
        )
    ]
    for many, single in zip(most, one, strict=True):
        assert many is not None
        assert single is not None
        assert many.max_usage.output_tokens == 8 * single.max_usage.output_tokens
