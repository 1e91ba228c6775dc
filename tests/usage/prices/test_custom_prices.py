"""An administrator's prices: for which tier they are, and that they can say whatever the published ones can."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from usage.admin import ModelPriceAdmin
from usage.custom_prices import PRICES, CustomPrice
from usage.models import ModelPrice
from usage.money.billing import price_call
from usage.prices.price_lookup import TOKEN_UNITS, find_rates
from usage.prices.published_prices import TOKEN_PRICES

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def own(model: str = "gpt-6-astra", **stated: Any) -> CustomPrice:
    columns: dict[str, Any] = {name: Decimal(v) if name in PRICES else v for name, v in stated.items()}
    return CustomPrice(model, LONG_AGO, **columns)


def cost(model: str, price: CustomPrice, *, tier: str = "default", **columns: Any) -> Decimal | None:
    row: Any = {
        "method": "POST", "route": "/v1/responses", "response_model": model, "service_tier": tier, "started_at": NOW,
        "outcome": "success", "usage_source": "exact", **columns,
    }  # fmt: skip
    return price_call(row, [price])[0]


@pytest.mark.parametrize(
    ("stated", "tier", "dollars"),
    [  # 1,000,000 tokens of gpt-6-astra, $10: flex $5, priority $20
        ({"input": "1"}, "default", "1"),
        ({"input": "1"}, "auto", "1"),
        ({"input": "1"}, "flex", "5"),  # once an empty tier meant every tier: $1
        ({"input": "1"}, "priority", "20"),
        ({"input": "1", "every_tier": True}, "flex", "1"),
        ({"input": "1", "service_tier": "flex"}, "flex", "1"),
        ({"input": "1", "service_tier": "flex", "every_tier": True}, "default", "10"),
        ({"input": "1", "service_tier": "priority"}, "fast", "1"),  # two names of one tier
        ({"input": "1", "service_tier": "fast"}, "priority", "1"),
        ({"input": "1", "service_tier": "Priority "}, "priority", "1"),
        ({"input": "1", "service_tier": "FLEX"}, "flex", "1"),
        ({"input": "1", "service_tier": "auto"}, "default", "1"),
        ({"input": "1", "service_tier": "Standard"}, "default", "1"),
        ({"input": "1", "service_tier": "auto"}, "flex", "5"),
        ({"multiplier": "0.88"}, "default", "8.8"),
        ({"multiplier": "0.88"}, "flex", "5"),
        ({"multiplier": "0.88", "every_tier": True}, "flex", "4.4"),
        ({"multiplier": "0.88", "every_tier": True}, "priority", "17.6"),
        ({"multiplier": "0.88", "every_tier": True, "input": "3"}, "priority", "3"),
    ],
)
def test_the_tier_for_which_a_price_is(stated: dict[str, Any], tier: str, dollars: str) -> None:
    # 272,000 tokens at most, or the prompt is a long one
    assert cost("gpt-6-astra", own(**stated), tier=tier, input_tokens=100_000) == Decimal(dollars) / 10


def test_a_price_for_the_default_tier_is_more_specific_than_one_for_every_tier() -> None:
    prices = [own("local", input="2"), own("local", input="1", every_tier=True)]
    for order in (prices, prices[::-1]):
        rates = {tier: find_rates("local", tier, NOW, order) for tier in ("default", "flex")}
        assert {tier: found and found.rate("input", 1) for tier, found in rates.items()} == {"default": 2, "flex": 1}


def test_a_price_for_a_tier_is_also_for_the_other_name_of_that_tier() -> None:
    every, priority, fast = (
        own("local", input="1", every_tier=True),
        own("local", input="2", service_tier="priority"),
        own("local", input="3", service_tier="fast"),
    )
    for prices, dollars in (([every, priority], 2), ([priority, every], 2), ([every, priority, fast], 3), ([every], 1)):
        found = find_rates("local", "fast", NOW, prices)
        assert found is not None
        assert found.rate("input", 1) == dollars


@pytest.mark.parametrize("unit", [unit for unit in TOKEN_UNITS if unit != "input"])
def test_each_unit_that_is_published_can_have_a_price_of_ones_own(unit: str) -> None:
    price = find_rates("local", "default", NOW, [own("local", input="1", **{unit: "7"})])
    assert price is not None
    assert price.rate(unit, 1) == 7
    assert price.rate("input", 1) == 1


def test_no_published_unit_is_forgotten() -> None:
    assert set(TOKEN_PRICES) <= set(PRICES)
    assert {field.name for field in fields(CustomPrice)} <= {field.name for field in ModelPrice._meta.get_fields()}
    shown = [name for _, options in ModelPriceAdmin.fieldsets for name in options["fields"]]
    assert sorted(shown) == sorted(field.name for field in fields(CustomPrice))


def test_long_prompts() -> None:
    mine = own("local", input="1", long_input="2", long_cached_input="0.5", output="3")
    assert cost("local", mine, input_tokens=272_000) == Decimal("0.272")
    # 300,000 - 100,000 tokens at $2, 100,000 cached at $0.50
    assert cost("local", mine, input_tokens=300_000, cached_tokens=100_000) == Decimal("0.45")
    # A short prompt's cached tokens cost what its others do
    assert cost("local", mine, input_tokens=200_000, cached_tokens=100_000) == Decimal("0.2")


def test_a_multiplier_keeps_what_the_list_tells_apart() -> None:
    discounted = find_rates("gpt-6-astra", "default", NOW, [own(multiplier="0.88")])
    assert discounted is not None
    assert discounted.rate("output", 300_000) == Decimal(75) * Decimal("0.88")
    assert discounted.per_web_search == Decimal("0.01")
    assert discounted.source.startswith("own: 0.88 times genai-prices ")
    assert find_rates("gpt-99", "default", NOW, [own("gpt-99", multiplier="0.88")]) is None
    assumed = find_rates("gpt-4o-2031-01-01", "default", NOW, [own("gpt-4o*", multiplier="0.5")])
    assert assumed is not None
    assert assumed.is_provisional


def test_fees_and_characters() -> None:
    searched: dict[str, Any] = {
        "web_searches": 2,
        "other_usage": {"search_tool": "web_search_preview", "file_searches": 3},
    }
    # The list's $25 for a thousand searches with the preview tool and a model that does not reason
    assert cost("gpt-4.1", own("gpt-4.1", multiplier="1"), input_tokens=0, **searched) == Decimal("0.0575")
    mine = own("gpt-4.1", multiplier="1", per_web_search="0.001", per_file_search="0.002")
    assert cost("gpt-4.1", mine, input_tokens=0, **searched) == Decimal("0.008")
    spoken: dict[str, Any] = {"route": "/v1/audio/speech", "other_usage": {"characters": 1000}}
    assert cost("speaker", own("speaker", characters="15"), **spoken) == Decimal("0.015")


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({}, "__all__"),
        ({"input": Decimal(-1)}, "input"),
        ({"input": Decimal(1), "service_tier": "flex", "every_tier": True}, "every_tier"),
    ],
)
def test_the_form_refuses_what_makes_no_price(stated: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelPrice(model="gpt-9", valid_from=NOW, **stated).full_clean()
    assert list(refused.value.message_dict) == [field]
    ModelPrice(model="gpt-9", valid_from=NOW, multiplier=Decimal("0.88"), every_tier=True).full_clean()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("stated", "stored"),
    [
        ({"service_tier": "Priority"}, ("priority", False)),
        ({"service_tier": " FLEX "}, ("flex", False)),
        ({"service_tier": "auto"}, ("", False)),
        ({"service_tier": "default", "every_tier": True}, ("", False)),  # as code of before could store it
        ({"every_tier": True}, ("", True)),
        ({}, ("", False)),
    ],
)
def test_a_tier_is_stored_as_answers_spell_it(stated: dict[str, Any], stored: tuple[str, bool]) -> None:
    price = ModelPrice.objects.create(model="gpt-9", valid_from=NOW, input=1, **stated)
    price.refresh_from_db()
    assert (price.service_tier, price.every_tier) == stored
