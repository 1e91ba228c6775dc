"""The prices that correct and complete genai-prices: what each costs, where it was read, and when it can go."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from usage.prices.price_corrections import FILE, Correction, corrections
from usage.prices.price_lookup import TIER_FACTORS, cached_rates, find_rates
from usage.prices.published_prices import ModelRates, published_rates

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
ENTRIES: list[dict[str, Any]] = json.loads(FILE.read_text())
UNITS = {
    "input", "cached_input", "cache_write", "cache_write_12h", "audio_input", "cached_audio_input", "image_input",
    "cached_image_input", "output", "audio_output", "image_output", "characters",
}  # fmt: skip


def price(model: str, tier: str = "default", at: datetime = NOW) -> ModelRates:
    found = find_rates(model, tier, at, [])
    assert found is not None, f"{model} {tier}"
    return found


def dollars(rates: ModelRates, tokens: int = 1) -> dict[str, str]:
    return {unit: str(rates.rate(unit, tokens)) for unit in rates.rates}


def names(correction: Correction) -> list[str]:
    """Names of models that an entry is for: `ft:…*` is the pattern of `ft:…:org::id`, any other that of a name."""
    return [name.replace("*", ":org::id" if name.startswith("ft:") else "") for name in correction.models]


def test_it_works() -> None:
    rates = price("gpt-6.2-sol")
    assert dollars(rates) == {
        "input": "2", "cached_input": "0.1", "cache_write": "2.5", "cache_write_12h": "5", "output": "10",
    }  # fmt: skip
    assert rates.source == "https://developers.openai.com/api/docs/models/gpt-6.2-sol (read 2026-11-28)"
    assert not rates.is_provisional
    assert find_rates("gpt-6.2-sol", "default", datetime(2026, 11, 16, 23, 59, tzinfo=UTC), []) is None


@pytest.mark.parametrize(
    ("model", "tier", "unit", "dollars_per_million"),
    [  # by hand, from the pages that the file names
        ("gpt-6.2-sol", "batch", "output", "5"),
        ("gpt-6.2-sol", "flex", "cached_input", "0.05"),
        ("gpt-6.2-sol", "priority", "input", "4"),
        ("gpt-6.2-sol", "fast", "input", "4"),
        ("gpt-6.2-sol", "ultrafast", "output", "30"),
        ("gpt-6.2-astra", "default", "cached_input", "0.4"),
        ("gpt-6-astra", "ultrafast", "output", "300"),
        ("gpt-6.1-sol", "ultrafast", "cached_input", "0.6"),
        ("gpt-4o-transcribe", "default", "audio_input", "2.5"),
        ("gpt-4o-transcribe-diarize", "default", "audio_input", "2.5"),
        ("gpt-4o-mini-transcribe-2025-12-15", "default", "audio_input", "1.25"),
        ("gpt-4o-mini-tts-2025-12-15", "default", "output", "12"),
        ("gpt-5-search-api-2025-10-14", "default", "output", "10"),
        ("gpt-daybreak-blue-latest", "flex", "input", "2"),
        ("gpt-6-astra-law", "default", "output", "50"),
        ("ft:gpt-4o-2024-08-06:org::id", "default", "cached_input", "1.875"),
        ("ft:gpt-4o-2024-08-06:org::id", "default", "input", "3.75"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "default", "cached_input", "0.15"),
        ("ft:gpt-4.1-mini-2025-04-14:acme-moderation::id", "default", "output", "3.2"),
        ("ft:o4-mini-2025-04-16:org::id", "default", "cached_input", "1"),
        ("gpt-4o-audio-preview-2024-12-17", "default", "audio_output", "80"),
        ("gpt-4o-audio-preview-2024-12-17", "default", "output", "10"),
        ("gpt-4o-mini-audio-preview", "default", "audio_input", "10"),
        ("gpt-image-2.6-sunburst", "default", "cached_image_input", "2"),
    ],
)
def test_what_is_published_is_the_price(model: str, tier: str, unit: str, dollars_per_million: str) -> None:
    rates = price(model, tier)
    assert rates.rate(unit, 1) == Decimal(dollars_per_million)
    assert not rates.is_provisional
    assert rates.tier == tier


def test_long_prompts_and_ends_of_offers() -> None:
    assert price("gpt-6.2-sol", "batch").rate("output", 272_001) == Decimal("7.5")
    assert price("gpt-6.2-sol", "batch").rate("output", 272_000) == Decimal(5)
    # "3 times the Standard rate through February 28, 2027, and 6 times the Standard rate starting March 1"
    last = datetime(2027, 2, 28, 23, 59, tzinfo=UTC)
    assert price("gpt-6.2-sol", "ultrafast", last).rate("input", 1) == 6
    assert price("gpt-6.2-sol", "ultrafast", datetime(2027, 3, 1, tzinfo=UTC)).rate("input", 1) == 12


@pytest.mark.parametrize(
    ("model", "tier", "like", "factor"),
    [
        ("gpt-4o-2031-01-01", "default", "gpt-4o", "1"),
        ("gpt-4o-20310101", "default", "gpt-4o", "1"),
        ("gpt-6.2-sol-2026-12-01", "batch", "gpt-6.2-sol", "0.5"),
        ("gpt-4o", "flex", "gpt-4o", "0.5"),
        ("gpt-5.5-pro", "priority", "gpt-5.5-pro", "2"),
        ("gpt-6.2-astra", "ultrafast", "gpt-6.2-astra", "6"),
        ("gpt-5", "scale", "gpt-5", "1"),
    ],
)
def test_what_is_assumed_is_provisional(model: str, tier: str, like: str, factor: str) -> None:
    assumed, default = price(model, tier), price(like)
    assert assumed.is_provisional
    assert not default.is_provisional
    assert assumed.rates == default.times(Decimal(factor)).rates
    assert (assumed.per_web_search, assumed.per_file_search) == (default.per_web_search, default.per_file_search)


def test_each_listed_model_has_a_price_in_each_tier() -> None:
    for model in ("gpt-4.1", "gpt-5", "gpt-6-astra", "gpt-6.2-sol", "ft:o4-mini-2025-04-16:o::i", "whisper-1"):
        for tier in ("default", *TIER_FACTORS):
            assert price(model, tier).tier == tier


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['models'][0]}-{entry['tiers'][0]}")
def test_each_entry_says_where_and_when_it_was_read(entry: dict[str, Any]) -> None:
    assert entry["source"].startswith("https://")
    first, read = date.fromisoformat(entry["valid_from"]), date.fromisoformat(entry["read"])
    assert date(2026, 11, 28) <= read <= datetime.now(UTC).date()
    assert entry["valid_until"] is None or first < date.fromisoformat(entry["valid_until"])
    assert sum(name in entry for name in ("per_million", "per_picture", "factor", "same_as")) == 1
    assert entry.get("per_million", {}).keys() <= UNITS
    assert entry.get("per_million_long", {}).keys() <= entry.get("per_million", {}).keys()
    assert entry.keys() <= {
        "models", "tiers", "per_million", "per_million_long", "per_picture", "factor", "same_as",
        "valid_from", "valid_until", "source", "read", "note",
    }  # fmt: skip
    assert all(name == name.lower() for name in entry["models"] + entry["tiers"])


@pytest.mark.parametrize("correction", corrections(), ids=lambda one: f"{one.models[0]}-{one.tiers[0]}")
def test_genai_prices_has_not_caught_up(correction: Correction) -> None:
    """If this fails, a new genai-prices lists the price itself: delete the entry from the file of corrections."""
    at = max(NOW, correction.valid_from)
    for name in names(correction):
        for tier in correction.tiers:
            listed = published_rates(name, "default" if tier == "*" else tier, at)
            if listed is None:
                continue
            assert correction.rates, f"genai-prices lists {name}"
            wanted = {unit: correction.rates[unit] for unit in correction.rates}
            assert {unit: listed.rates.get(unit) for unit in wanted} != wanted, f"genai-prices has the rates of {name}"


def test_the_list_is_looked_up_once_a_minute() -> None:
    cached_rates.cache_clear()
    for second in range(50):
        find_rates("gpt-6.2-sol", "flex", NOW.replace(second=second), [])
    assert cached_rates.cache_info().misses == 1
