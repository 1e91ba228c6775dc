"""OpenAI's price of regional processing: by the host of upstream, or by a setting, and for newer models only."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from usage.custom_prices import CustomPrice
from usage.prices.price_lookup import find_rates
from usage.prices.published_prices import ModelRates

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


def price(model: str, *own: CustomPrice, tier: str = "default") -> ModelRates:
    found = find_rates(model, tier, NOW, own)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("base_url", "setting", "dollars"),
    [
        ("https://api.openai.com/v1", None, "10"),
        ("https://eu.api.openai.com/v1", None, "11"),
        ("https://US.api.openai.com/v1", None, "11"),
        ("https://eu.api.openai.com/v1", False, "10"),
        ("http://upstream.internal:8080/v1", None, "10"),
        ("http://upstream.internal:8080/v1", True, "11"),
        ("https://evilapi.openai.com.example/v1", None, "10"),
    ],
)
def test_it_works(settings: Settings, base_url: str, setting: bool | None, dollars: str) -> None:
    settings.OPENAI_BASE_URL, settings.REGIONAL_PRICES = base_url, setting
    assert price("gpt-6-astra").rate("input", 1) == Decimal(dollars)


@pytest.mark.parametrize(
    ("model", "tier", "unit", "dollars", "is_provisional"),
    [  # 1.1 times the list's
        ("gpt-6-astra", "default", "cached_input", "1.1", False),
        ("gpt-6-astra", "flex", "output", "27.5", False),
        ("gpt-5.4-mini-2026-03-17", "default", "output", "4.95", False),
        ("gpt-6.2-sol", "batch", "output", "5.5", True),  # newer than the source that names models
        ("gpt-5", "default", "output", "10", False),  # released before
        ("gpt-4o-transcribe", "default", "output", "10", False),
        ("claude-sonnet-4-5", "default", "output", "15", False),
    ],
)
def test_newer_models_cost_ten_percent_more(
    settings: Settings, model: str, tier: str, unit: str, dollars: str, is_provisional: bool
) -> None:
    settings.REGIONAL_PRICES = True
    found = price(model, tier=tier)
    assert found.rate(unit, 1) == Decimal(dollars)
    assert found.is_provisional == is_provisional
    assert found.source.endswith("; regional processing") == (dollars not in {"10", "15"})


def test_searches_cost_the_same_everywhere_and_own_prices_are_what_they_say(settings: Settings) -> None:
    settings.REGIONAL_PRICES = True
    assert price("gpt-6-astra").per_web_search == Decimal("0.01")
    own = CustomPrice("gpt-6-astra", datetime(2020, 1, 1, tzinfo=UTC), input=Decimal(3))
    assert price("gpt-6-astra", own).rate("input", 1) == 3
    discount = CustomPrice("gpt-6-astra", datetime(2020, 1, 1, tzinfo=UTC), multiplier=Decimal("0.5"))
    assert price("gpt-6-astra", discount).rate("input", 1) == Decimal("5.5")
