"""A call that was admitted for the price of its model costs something, whatever upstream answers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from usage.money.billing import MaxUsage, cost_kind, highest_cost, price_call
from usage.prices.price_lookup import listed_models

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


def row(**columns: Any) -> Any:
    return {"route": "/openai", "method": "POST", "outcome": "success", "started_at": NOW, **columns}


@pytest.mark.parametrize(
    ("columns", "dollars"),
    [
        ({"response_model": "gpt-99"}, "2.5"),
        ({"response_model": "gpt-99", "service_tier": "priority"}, "4.25"),
        ({"response_model": "gpt-99", "service_tier": "on_demand"}, "2.5"),
        ({"response_model": "gpt-4o-mini", "service_tier": "on_demand"}, "0.15"),
        ({"response_model": "claude-opus-4-1", "service_tier": "priority"}, "15"),
        ({"response_model": "gpt-99", "request_model": "gpt-98"}, None),
        ({"response_model": "gpt-99", "request_model": "omni-moderation-latest"}, None),  # an estimate of $0 is none
    ],
)
def test_what_no_list_has_costs_what_was_asked_for(columns: dict[str, Any], dollars: str | None) -> None:
    call = row(**{"request_model": "gpt-4o", "input_tokens": 1_000_000, **columns})
    found, price = price_call(call, [])
    assert found == (None if dollars is None else Decimal(dollars))
    assert cost_kind(call, price) == ("" if dollars is None else "provisional")


def test_a_tier_that_nobody_knows_costs_what_the_default_one_does() -> None:
    for model, tier in (("gpt-5", "turbo"), ("claude-sonnet-4-5", "flex")):
        dollars, _ = price_call(row(request_model=model, input_tokens=1000), [])
        assert dollars
        assert price_call(row(request_model=model, service_tier=tier, input_tokens=1000), [])[0] == dollars


# What an upstream may state of a call's usage, whatever its model is.
USAGES: list[dict[str, Any]] = [
    {"usage_source": "exact", "input_tokens": 1000, "output_tokens": 1000},
    {"usage_source": "exact", "input_tokens": 1000, "output_tokens": 1000,
     "audio_input_tokens": 500, "audio_output_tokens": 500, "cached_tokens": 700, "cache_write_tokens": 100},
    {"usage_source": "exact", "usage": {"total_tokens": 1000}},
    {"usage_source": "exact", "audio_seconds": 60.0},
    {"usage_source": "estimated", "input_tokens": 1000, "output_tokens": 1000},
    {"usage_source": "estimated", "input_tokens": 1000, "output_tokens": 1000,
     "audio_input_tokens": 1000, "audio_output_tokens": 0},
]  # fmt: skip
MOST = MaxUsage(1000, 1000, 60, kinds=frozenset({"audio_input", "audio_output", "image_input", "image_output"}))


@pytest.mark.parametrize("answered", [{}, {"response_model": "gpt-99", "service_tier": "turbo"}])
@pytest.mark.parametrize("usage", USAGES)
def test_what_can_be_reserved_can_be_billed(usage: dict[str, Any], answered: dict[str, Any]) -> None:
    """Otherwise a key with a budget could make such calls without end."""
    models = sorted(name for name in listed_models() if highest_cost(name, "", NOW, MOST, ()) is not None)
    assert len(models) > 100
    calls = {name: row(**{"request_model": name, "request_bytes": 4000, **usage, **answered}) for name in models}
    costs = {name: price_call(call, [])[0] for name, call in calls.items()}
    free = {name for name, dollars in costs.items() if not dollars}
    assert {name for name in free if highest_cost(name, "", NOW, MOST, ())} == set()
