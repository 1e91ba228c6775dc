"""Each model that the SDK's types name, and each of today's price list, has a price, or a reason that stands here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import openai
import pytest

from usage.custom_prices import CustomPrice
from usage.models import ModelPrice
from usage.prices.genai_price_list import bundled, names_in
from usage.prices.price_sources import find_rates
from usage.prices.published_prices import ModelRates
from usage.sums.unpriced_calls import propose_custom_price

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
TYPES = Path(openai.__file__).parent / "types"
# How names of models begin; other texts in the SDK's types are names of events, voices and the like.
MODEL = re.compile(
    r'"((?:gpt-|chatgpt-|o\d|dall-e|whisper|tts-|text-(?:embedding|moderation|ada|davinci)|omni-|sora-|codex-|computer-use'
    r'|babbage|davinci)[\w.-]*)"'
)
SHUT_DOWN = (
    "The Sora API was shut down on 2026-09-24 (the SDK's `resources/videos.py`); videos had a price by the second."
)
OPEN_WEIGHTS = "Its weights are open: it costs what the owner of the server says."
# The calls of these models are in the list "Needs a price", until an administrator gives them one.
WITHOUT_PRICE = {
    "gpt-6.2-astra-law": "No page that was found states its price (2026-11-28).",
    "sora-2": SHUT_DOWN,
    "sora-2-2025-10-06": SHUT_DOWN,
    "sora-2-2025-12-08": SHUT_DOWN,
    "sora-2-pro": SHUT_DOWN,
    "sora-2-pro-2025-10-06": SHUT_DOWN,
    "ft:gpt-4o": "A fine-tuned model's name has the date of its base model; those have a price.",
    "ft:gpt-4o-mini": "A fine-tuned model's name has the date of its base model; those have a price.",
    "gpt-oss-120b": OPEN_WEIGHTS,
    "gpt-oss-20b": OPEN_WEIGHTS,
    "gpt-oss-safeguard-20b": OPEN_WEIGHTS,
    "moderation": "The list's name for all moderation models; those that OpenAI has are free.",
}  # fmt: skip


def named_by_sdk() -> set[str]:
    return {name for path in TYPES.rglob("*.py") for name in MODEL.findall(path.read_text())}


def listed() -> set[str]:
    return set(names_in(bundled()))


def test_the_search_finds_models_of_every_kind() -> None:
    kinds = {
        "gpt-5", "o3", "gpt-image-2", "dall-e-2", "whisper-1", "tts-1-hd", "text-embedding-3-small", "sora-2",
        "omni-moderation-latest", "gpt-4o-transcribe-diarize", "computer-use-preview", "gpt-realtime",
    }  # fmt: skip
    assert kinds <= named_by_sdk()


def test_each_gap_has_its_reason() -> None:
    models = named_by_sdk() | listed()
    assert len(models) > 150
    lacking = {name for name in models if find_rates(name, "default", NOW, ()) is None}
    assert lacking == WITHOUT_PRICE.keys()


def test_no_model_that_the_sdk_names_has_an_assumed_price() -> None:
    prices = {name: find_rates(name, "default", NOW, ()) for name in named_by_sdk()}
    assert {name for name, price in prices.items() if price is not None and price.is_provisional} == set()


def stated(price: ModelRates) -> dict[object, object]:
    """What a price states, at short and long prompts."""
    tokens: dict[object, object] = {
        (unit, size): price.rate(unit, size) for unit in price.rates for size in (1, 272_000, 272_001)
    }
    return {**tokens, "minute": price.per_minute, "web": price.per_web_search, "file": price.per_file_search}


@pytest.mark.parametrize("name", sorted((named_by_sdk() | listed()) - WITHOUT_PRICE.keys()))
def test_a_price_of_ones_own_can_say_what_the_published_one_says(name: str) -> None:
    published = find_rates(name, "default", NOW, ())
    assert published is not None
    if published.is_free:
        return
    family, fields = propose_custom_price(f"{name}-unknown", "default", NOW)
    assert family == name
    own: CustomPrice = ModelPrice(model=name, valid_from=NOW, **fields).as_custom_price()
    repeated = find_rates(name, "default", NOW, [own])
    assert repeated is not None
    assert repeated.source == "own"
    found, wanted = stated(repeated), stated(published)
    assert {what: found.get(what) for what in wanted} == wanted
    if published.per_picture is not None:  # one for all sizes and qualities: the highest
        assert repeated.picture_rate("hd 1x1") == max(published.per_picture.values())
