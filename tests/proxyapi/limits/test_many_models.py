"""Requests written so that finding the price of a reservation would take long, or much memory: many and long names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import BadRequest
from proxyapi.limits.cost_ceiling import MOST_MODELS, ceiling_of
from proxyapi.limits.usage_estimates import most_usage
from proxyapi.routes import find_route
from usage.custom_prices import MAX_MODEL_LENGTH, MAX_TIER_LENGTH, CustomPrice
from usage.money.billing import MaxUsage, highest_cost
from usage.prices import price_lookup

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


def most_of(path: str, body: dict[str, Any]) -> MaxUsage:
    ceiling = ceiling_of("POST", find_route(path), JSONBody.parse(json.dumps(body).encode()))
    assert ceiling is not None
    return ceiling.max_usage


def test_a_name_of_any_length_costs_what_its_row_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row has no more of the name; the caches neither."""
    asked: list[tuple[int, int]] = []

    def rates(_: object, model: str, tier: str, __: datetime) -> None:
        asked.append((len(model), len(tier)))

    monkeypatch.setattr(price_lookup, "cached_rates", rates)
    long = "x" * 10**6
    own = CustomPrice("own-*", NOW, input=Decimal(1), output=Decimal(1))
    assert highest_cost(f"own-{long}", "", NOW, MaxUsage(10**6), [own]) == 1
    for name in (long, f"ft:gpt-4o:{long}", f"decisions:{long}"):
        assert highest_cost(name, long, NOW, MaxUsage(10**6), [own]) is None
    assert asked
    assert max(asked) <= (MAX_MODEL_LENGTH, MAX_TIER_LENGTH)
    assert max(tier for _, tier in asked) <= MAX_TIER_LENGTH


def test_a_request_names_few_models() -> None:
    named = {**CHAT, "fallbacks": [f"ft:gpt-4o:{number}" for number in range(MOST_MODELS)]}
    with pytest.raises(BadRequest, match="32 models"):
        most_of("/chat/completions", named)
    assert most_of("/chat/completions", {**named, "fallbacks": named["fallbacks"][1:]}).output_tokens == 10
    tools = [{"type": "image_generation", "model": f"m{number}"} for number in range(5000)]
    body = JSONBody.parse(json.dumps({"model": "gpt-5", "input": "hi", "tools": tools}).encode())
    most = most_usage("POST", find_route("/responses"), body, 0)
    assert most is not None
    assert len(most.picture_models) == MOST_MODELS
    few = [*tools[:1] * 5000, *tools[-1:]]
    assert most_of("/responses", {"model": "gpt-5", "input": "hi", "tools": few}).picture_models == {"m0", "m4999"}


def test_a_request_names_few_tiers() -> None:
    """However often it names one, and in whatever case."""
    tiers = [" " * number + name for number in range(200) for name in ("flex", "Flex", "FLEX")]
    raw = '{"model": "gpt-4o", "messages": []' + "".join(f', "service_tier": "{tier}"' for tier in tiers)
    ceiling = ceiling_of("POST", find_route("/chat/completions"), JSONBody.parse(f"{raw}}}".encode()))
    assert ceiling is not None
    assert ceiling.tiers == {"flex"}
    more = "".join(f', "service_tier": "{number}"' for number in range(4))
    with pytest.raises(BadRequest, match="4 service tiers"):
        ceiling_of("POST", find_route("/chat/completions"), JSONBody.parse(f"{raw}{more}}}".encode()))
