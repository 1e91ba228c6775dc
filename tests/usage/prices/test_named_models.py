"""Each model that the SDK's types name, each of today's price list, each old snapshot and each fine-tuned model has a
price, or a reason that stands here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import openai
import pytest
from pytest_django.fixtures import Settings

from usage.custom_prices import CustomPrice
from usage.models import ModelPrice
from usage.prices.genai_price_list import bundled, names_in
from usage.prices.price_lookup import find_rates, undated_name
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


# Snapshots that OpenAI's list of models has had and the SDK's types do not name, and what each costs as much as.
SNAPSHOTS = {
    "tts-1-1106": "tts-1", "tts-1-hd-1106": "tts-1-hd", "gpt-3.5-turbo-instruct-0914": "gpt-3.5-turbo-instruct",
    "gpt-4-1106-vision-preview": "gpt-4-turbo", "text-embedding-ada-002-v2": "text-embedding-ada-002",
    "gpt-4.5-preview-2025-02-27": "gpt-4.5-preview", "gpt-4-0314": "gpt-4", "gpt-4-32k-0613": "gpt-4-32k",
    "gpt-4o-mini-search-preview-2025-03-11": "gpt-4o-mini-search-preview",
}  # fmt: skip
FINE_TUNABLE = re.search(r"model: .*Literal\[(.*?)\]", (TYPES / "fine_tuning" / "job_create_params.py").read_text())
# What the SDK names as base models, and the snapshots that were tuned besides (LiteLLM's list, read 2026-11-30).
BASES = {
    *re.findall(r'"([^"]+)"', FINE_TUNABLE[1] if FINE_TUNABLE else ""), "gpt-3.5-turbo-0613", "gpt-3.5-turbo-1106",
    "gpt-3.5-turbo-0125", "gpt-4-0613", "gpt-4", "gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20",
    "gpt-4o-mini-2024-07-18",
    "gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "gpt-4.1-nano",
    "gpt-4.1-nano-2025-04-14", "o4-mini", "o4-mini-2025-04-16",
}  # fmt: skip


@pytest.mark.parametrize(("name", "like"), SNAPSHOTS.items())
def test_a_snapshot_without_a_year_costs_what_its_model_does(name: str, like: str) -> None:
    price, wanted = find_rates(name, "default", NOW, ()), find_rates(like, "default", NOW, ())
    assert price is not None
    assert wanted is not None
    assert (price.rates, price.is_provisional) == (wanted.rates, False)


def test_the_sdk_names_base_models() -> None:
    assert {"babbage-002", "davinci-002", "gpt-3.5-turbo", "gpt-4o-mini"} <= BASES


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("rest", ["", ":org::id", ":org:suffix:id", ":org:suffix:id:ckpt-step-90"])
def test_a_fine_tuned_model_costs_more_than_its_base_model(base: str, rest: str) -> None:
    tuned, usual = find_rates(f"ft:{base}{rest}", "default", NOW, ()), find_rates(base, "default", NOW, ())
    assert tuned is not None
    assert usual is not None
    assert not tuned.is_provisional
    for unit in ("input", "output"):
        of_base = usual.rate(unit, 1) or 0
        price = tuned.rate(unit, 1) or 0
        # Of gpt-4 no other price was published (LiteLLM's list, too, has that of the base model).
        assert price == of_base if base in {"gpt-4", "gpt-4-0613"} else price > of_base


# Names of the price list that name no base model: patterns, fine-tuned models, and those of one route or of a reseller.
NO_BASES = re.compile(r"ft:.*|decisions:.*|.*:extended|.*\.ft-|.*\*.*")
FORMS = (
    "ft:{}", "ft:{}:org::id", "ft:{}:org:suffix:id", "ft:{}:org:suffix:id:ckpt-step-90", "ft:{}:acme-moderation::id",
    "ft:{}-2031-01-01", "ft:{}-2031-01-01:org::id", "{}:ft-org-2023-03-01-12-00-00", "{}.ft-0123456789abcdef",
)  # fmt: skip
# Listed with all dates of gpt-4o; the price of this one's input was twice that of the others.
CHEAPER_TUNED = {"gpt-4o-2024-05-13": {"input"}}


@pytest.mark.parametrize("base", sorted(name for name in listed() if not NO_BASES.fullmatch(name)))
@pytest.mark.parametrize("tier", ["default", "flex"])
def test_a_fine_tuned_model_costs_at_least_what_its_base_model_does(base: str, tier: str) -> None:
    usual = find_rates(base, tier, NOW, ())
    for form in FORMS:
        tuned = find_rates(form.format(base), tier, NOW, ())
        if usual is None or usual.is_free:
            assert tuned is None or not tuned.is_free, form
            continue
        assert tuned is not None, form
        assert not tuned.is_free, form
        cheaper = {unit for unit in usual.rates if (tuned.rate(unit, 1) or 0) < (usual.rate(unit, 1) or 0)}
        assert cheaper <= CHEAPER_TUNED.get(base, set()), form
        assert tuned.per_minute == usual.per_minute, form
        if tuned.rates == usual.rates and undated_name(base) != "gpt-4":  # of gpt-4 that price is published
            assert tuned.is_provisional, form


def test_a_fine_tuned_model_in_one_region_costs_as_much_more_as_its_base_model(settings: Settings) -> None:
    settings.REGIONAL_PRICES = True
    for base in ("gpt-6-sol", "gpt-6.9-sol"):
        tuned, usual = (find_rates(name, "default", NOW, ()) for name in (f"ft:{base}:org::id", base))
        assert (tuned and tuned.rates) == (usual and usual.rates)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gpt-4-0613", "gpt-4"), ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k"), ("tts-1-hd-1106", "tts-1-hd"),
        ("gpt-4o-2024-08-06", "gpt-4o"), ("gpt-4o-20240806", "gpt-4o"), ("babbage-002", "babbage-002"),
        ("gpt-4-1106-preview", "gpt-4-1106-preview"), ("some-1024-model", "some-1024-model"), ("x-1332", "x-1332"),
        ("x-0032", "x-0032"), ("x-2048", "x-2048"), ("x-11061", "x-11061"), ("o3", "o3"),
    ],
)  # fmt: skip
def test_a_date_is_taken_off_a_name(name: str, wanted: str) -> None:
    assert undated_name(name) == wanted


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
