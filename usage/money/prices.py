"""Owns the price of a call: from the ledger's columns to dollars, and the price they were computed from.

Nothing is read at call time: an administrator's own prices come as an argument, all others are the
installed genai-prices package's (list prices in its `data` module; a new release brings new ones).

A wrong price is worse than none, so a call has no price (None), rather than a guessed one, when

* its counts are unknown, contradict each other (more cached than input tokens), or hold something the
  price says nothing of (audio tokens of a model without a published audio price);
* the model prices audio or images apart, and upstream did not say how many of the tokens they are;
* the tier answered has no published price at that time. genai-prices knows flex, priority and fast of most
  models from 2026-10-12 on, batch from 2026-10-14 on; `scale` is bought in advance, not by the token. No tier
  falls back to the default one, which costs about twice what flex does and half of what priority does;
* the name is not OpenAI's. Weights that anyone may serve (gpt-oss, Llama, DeepSeek, ...) cost what the
  server's owner says: that is an own price. Only names that one vendor alone sells are looked up there
  (`SOLE_SELLERS`), and only while input and output are all of the total that the vendor states: some
  leave reasoning out of the output. A dated name that is not listed is not taken for its family: the
  input of gpt-4o-2024-05-13 costs twice that of gpt-4o.

Known, and not in the numbers: file search and container fees, the surcharge of regional processing,
12-hour cache retention. A web search costs what the model's entry says ($10 per 1,000 calls); left out are
the fee of models without one (gpt-4o-search-preview and the like, which search in every call), the $25 of
the older `web_search_preview` tool (a row does not say which tool searched), and the fixed 8,000 input tokens
per search of gpt-4o-mini and gpt-4.1-mini. Sources: developers.openai.com/api/docs/pricing and
/guides/tools-web-search. Fine-tuned models have no published cached price there: cached tokens cost what others do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Literal, TypeAlias

import genai_prices
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from usage.answers.tokens import input_details, output_details, whole_count
from usage.call_record import CallRecord, Price, PricedItem, called_model
from usage.own_prices import OwnPrice

SOURCE = f"genai-prices {genai_prices.__version__}"
OPENAI = next(provider for provider in providers if provider.id == "openai")
LISTED_MODELS = frozenset(info.id for info in OPENAI.models)  # by their exact names
SOLE_SELLERS = {"anthropic", "google", "x-ai"}
OPEN_WEIGHTS = "gpt-oss-"
# genai-prices takes any name with "moderation" in it, a fine-tuned model's suffix too.
MODERATIONS = ("omni-moderation-", "text-moderation-")

# A unit of ours, and genai-prices' name of its price per million tokens.
TOKEN_PRICES = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "audio_input": "input_audio_mtok",
    "cached_audio_input": "cache_audio_read_mtok",
    "image_input": "input_image_mtok",
    "cached_image_input": "cache_image_read_mtok",
    "output": "output_mtok",
    "audio_output": "output_audio_mtok",
    "image_output": "output_image_mtok",
}
# No price for the left one means the right one's: no discount is published, so there is none.
UNDISCOUNTED = {
    "cached_input": "input",
    "cache_write": "input",
    "cached_audio_input": "audio_input",
    "cached_image_input": "image_input",
}

# Units that only calls of that kind have.
INPUT_KINDS = frozenset({"audio_input", "image_input"})
OUTPUT_KINDS = frozenset({"audio_output", "image_output"})

SMALLEST = Decimal("0.00000001")
TOO_MUCH = Decimal(10**8)  # what the ledger's column cannot hold is no real count

Fee = Literal["per_minute", "per_web_search"]
# What `per_million` does not hold: the name of the price, and how many of the unit it is for.
FEES: dict[str, tuple[Fee, int]] = {"audio_seconds": ("per_minute", 60), "web_search": ("per_web_search", 1)}

Priced: TypeAlias = tuple[Decimal | None, Price | None]
NO_PRICE: Priced = (None, None)


@dataclass(frozen=True)
class _Price:
    """What one model costs at one time in one tier; `rates` are dollars per million tokens, by unit."""

    source: str
    model: str
    tier: str
    rates: Mapping[str, Decimal | TieredPrices]
    per_minute: Decimal | None = None
    per_web_search: Decimal | None = None
    is_free: bool = False
    states_total: bool = False  # the total stated must be input and output

    def rate(self, unit: str, input_tokens: int) -> Decimal | None:
        """A long prompt has its own price, for all of its tokens."""
        rate = self.rates.get(unit)
        if rate is None and unit in UNDISCOUNTED:
            rate = self.rates.get(UNDISCOUNTED[unit])
        if isinstance(rate, TieredPrices):
            return next((tier.price for tier in reversed(rate.tiers) if input_tokens > tier.start), rate.base)
        return rate


@dataclass(frozen=True)
class MaxUsage:
    """What one call can consume at most. `kinds`: which of its tokens may be priced apart, besides text."""

    input_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float = 0.0
    web_searches: int = 0
    kinds: frozenset[str] = frozenset()


def highest_cost(model: str, tier: str, at: datetime, most: MaxUsage, own_prices: Sequence[OwnPrice]) -> Decimal | None:
    """The most that a call of `most` can cost, in dollars, whatever of it is sound, image or written to a cache.

    A tier that is asked for may be answered with the default one. None: there is no price by which the ledger could
    tell what the call has cost.
    """
    asked = _tier(tier)
    prices = {one: _price(model.lower(), one, at, own_prices) for one in (asked, "default")}
    if prices[asked] is None:
        return None
    costs = [_highest(price, most) for price in prices.values() if price is not None]
    known = [cost for cost in costs if cost is not None]
    return min(max(known), TOO_MUCH) if len(known) == len(costs) else None


def _highest(price: _Price, most: MaxUsage) -> Decimal | None:
    if price.is_free:
        return Decimal(0)
    by_minute = price.per_minute is not None and most.audio_seconds > 0
    exact = Decimal(0)
    for count, units in (
        (most.input_tokens, ["input", "cached_input", "cache_write", *most.kinds & INPUT_KINDS]),
        (most.output_tokens, ["output", *most.kinds & OUTPUT_KINDS]),
    ):
        rates = [rate for unit in units if (rate := price.rate(unit, most.input_tokens)) is not None]
        if rates:
            exact += max(rates) * count / 1_000_000
        elif count and not by_minute:
            return None
    if price.per_minute is not None:
        exact += price.per_minute * Decimal(str(most.audio_seconds)) / 60
    if price.per_web_search is not None:
        exact += price.per_web_search * most.web_searches
    return min(exact, TOO_MUCH).quantize(SMALLEST, ROUND_CEILING)


def price_call(row: CallRecord, own_prices: Sequence[OwnPrice]) -> Priced:
    """Returns the dollars that a call has cost, and the price that they were computed from, as JSON.

    Dollars have 8 decimals, half up. Items add up to them exactly, so an item may be off by the last digit.
    `per_million` is in dollars, at the length of this prompt; `per_minute` and `per_web_search` are there when they
    were used. Both are None when no price is honest.

    The counts of the row are priced. A call that retrieves a stored response has the counts of the call that created
    it, so whoever asks must know that these have been billed before.
    """
    tier = _tier(row.get("service_tier"))
    if _is_free(row):
        return _bill(_Price("free", "", tier, {}, is_free=True), 0, [])
    started_at = row["started_at"]
    moment = started_at if isinstance(started_at, datetime) else datetime.fromisoformat(started_at)
    price = _price(called_model(row).lower(), tier, moment, own_prices)
    if price is None:
        return NO_PRICE
    if price.is_free:
        return _bill(price, 0, [])
    counts = _counts(row, price)
    return NO_PRICE if counts is None else _bill(price, row.get("input_tokens") or 0, counts)


def _is_free(row: CallRecord) -> bool:
    """Whether no model worked, whatever its price: looking at what there is, deleting it, counting tokens."""
    route = row.get("route") or ""
    looks = row.get("method") in {"GET", "DELETE"} and row.get("usage") is None and not route.startswith("/health")
    return looks or route.endswith("/input_tokens") or route.startswith("/v1/conversations")


def _tier(answered: str | None) -> str:
    tier = (answered or "").lower()
    return "default" if tier in ("", "auto", "standard") else tier


def _price(model: str, tier: str, at: datetime, own_prices: Sequence[OwnPrice]) -> _Price | None:
    """The own price for `model` (in lower case) if there is one, else the published one."""
    price = _own(own_prices, model, tier, at)
    # To the minute, for the cache; no price begins within one.
    return price or _published(model, tier, at.astimezone(UTC).replace(second=0, microsecond=0))


def _own(own_prices: Sequence[OwnPrice], model: str, tier: str, at: datetime) -> _Price | None:
    fitting = [price for price in own_prices if price.applies(model, tier, at)]
    if not fitting:
        return None
    own = max(fitting, key=lambda price: price.rank(model))
    rates = {
        "input": own.input,
        "cached_input": own.cached_input,
        "cache_write": own.cache_write,
        "output": own.output,
        "audio_input": own.input if own.audio_input is None else own.audio_input,
        "audio_output": own.output if own.audio_output is None else own.audio_output,
    }
    stated = {unit: rate for unit, rate in rates.items() if rate is not None}
    return _Price("own", own.model, tier, stated, own.per_minute, own.per_web_search)


@lru_cache(maxsize=4096)
def _published(model: str, tier: str, at: datetime) -> _Price | None:
    found = _find(model)
    if found is None:
        return None
    provider, info = found
    name = info.id if provider is OPENAI else f"{provider.id}/{info.id}"
    if model.startswith(MODERATIONS):
        return _Price(SOURCE, name, tier, {}, is_free=True)
    prices = _prices_in_tier(info, tier, at)
    if prices is None:
        return None
    rates = {unit: rate for unit, key in TOKEN_PRICES.items() if (rate := getattr(prices, key)) is not None}
    hour = prices.input_audio_hours if prices.audio_hours is None else prices.audio_hours
    searches = prices.web_searches_kcount
    if not rates and hour is None:
        return None  # priced by something that the ledger does not count: characters of speech
    return _Price(
        SOURCE,
        name,
        tier,
        rates,
        hour / 60 if isinstance(hour, Decimal) else None,
        searches / 1000 if isinstance(searches, Decimal) else None,
        states_total=provider is not OPENAI,
    )


@lru_cache(maxsize=1024)
def _find(model: str) -> tuple[Provider, ModelInfo] | None:
    """OpenAI's model of that name, or that of the one other vendor who sells it."""
    info = OPENAI.find_model(model)
    if info is not None and info.id == "moderation" and not model.startswith(MODERATIONS):
        info = None
    if info is not None:
        return None if model.startswith(OPEN_WEIGHTS) else (OPENAI, info)
    if "/" in model or ":" in model:  # a reseller's name, or a local server's
        return None
    vendors = [vendor for vendor in providers if vendor.model_match and vendor.model_match.is_match(model)]
    if len(vendors) != 1 or vendors[0].id not in SOLE_SELLERS:
        return None
    info = vendors[0].find_model(model)
    return None if info is None else (vendors[0], info)


def _prices_in_tier(info: ModelInfo, tier: str, at: datetime) -> ModelPrice | None:
    """genai-prices silently answers with the default tier's price where it knows no other; that is None here."""
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    known = any(
        variant.when.items() <= context.items() and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or ()
    )
    return info.get_prices(at, context) if known or tier == "default" else None


def _counts(row: CallRecord, price: _Price) -> list[tuple[str, int | float]] | None:
    """How much of each unit, without overlap; None if that is unknown or contradicts itself."""
    stated_input, seconds = row.get("input_tokens"), row.get("audio_seconds")
    if stated_input is None and seconds is None:
        return None
    input_tokens, output_tokens = stated_input or 0, row.get("output_tokens") or 0
    if price.states_total and (row.get("usage") or {}).get("total_tokens") not in (None, input_tokens + output_tokens):
        return None
    into = _input_counts(row, price, input_tokens)
    out = _output_counts(row, price, output_tokens)
    if into is None or out is None:
        return None
    counts: list[tuple[str, int | float]] = [*into, *out]
    if seconds and (price.per_minute is not None or stated_input is None):
        counts.append(("audio_seconds", seconds))
    if price.per_web_search is not None:
        counts.append(("web_search", row.get("web_searches") or 0))
    return [(unit, count) for unit, count in counts if count]


def _input_counts(row: CallRecord, price: _Price, total: int) -> list[tuple[str, int]] | None:
    """Cached tokens whose kind is not stated are text first, the kind that a cache makes least cheaper."""
    details = input_details(row.get("usage") or {})
    split = _audio_and_image(row, price, "input", details, total)
    cached, written = row.get("cached_tokens") or 0, row.get("cache_write_tokens") or 0
    if split is None or cached + written > total:
        return None
    audio, image = split
    text = total - audio - image
    by_kind = details.get("cached_tokens_details")
    if isinstance(by_kind, dict):
        cached_audio = min(whole_count(by_kind.get("audio_tokens")), audio)
        cached_image = min(whole_count(by_kind.get("image_tokens")), image)
        cached_text = cached - cached_audio - cached_image
    else:
        cached_text = min(cached, text)
        cached_audio = min(cached - cached_text, audio)
        cached_image = cached - cached_text - cached_audio
    if not 0 <= cached_text <= text:
        return None
    written = min(written, text - cached_text)
    return [
        ("input", text - cached_text - written),
        ("cached_input", cached_text),
        ("cache_write", written),
        ("audio_input", audio - cached_audio),
        ("cached_audio_input", cached_audio),
        ("image_input", image - cached_image),
        ("cached_image_input", cached_image),
    ]


def _output_counts(row: CallRecord, price: _Price, total: int) -> list[tuple[str, int]] | None:
    """Reasoning is output and costs the same."""
    details = output_details(row.get("usage") or {})
    split = _audio_and_image(row, price, "output", details, total)
    if split is None or (row.get("reasoning_tokens") or 0) > total:
        return None
    audio, image = split
    return [("output", total - audio - image), ("audio_output", audio), ("image_output", image)]


def _audio_and_image(
    row: CallRecord, price: _Price, direction: Literal["input", "output"], details: Mapping[str, object], total: int
) -> tuple[int, int] | None:
    """The tokens of `total` that are not text to `price`. An image is text to most: its tokens cost the same."""
    audio = row.get("audio_input_tokens") if direction == "input" else row.get("audio_output_tokens")
    text_rate = price.rates.get(direction)
    audio_apart = price.rates.get(f"audio_{direction}", text_rate) != text_rate
    image_apart = f"image_{direction}" in price.rates
    is_stated = audio is not None or "text_tokens" in details or "image_tokens" in details
    if total and (audio_apart or image_apart) and not is_stated:
        return None
    image = whole_count(details.get("image_tokens")) if image_apart else 0
    audio = audio or 0
    return (audio, image) if audio + image <= total else None


def _bill(price: _Price, input_tokens: int, counts: Sequence[tuple[str, int | float]]) -> Priced:
    """Rounds the running total, not each item, so that neither the items nor their sum drift."""
    per_million = {unit: price.rate(unit, input_tokens) for unit in price.rates}
    fees: dict[Fee, Decimal] = {}
    items: list[PricedItem] = []
    exact, cost = Decimal(0), Decimal(0).quantize(SMALLEST)
    for unit, count in counts:
        name, per = FEES.get(unit, (None, 1_000_000))
        rate: Decimal | None = getattr(price, name) if name else price.rate(unit, input_tokens)
        if rate is None:
            return NO_PRICE
        exact += rate * Decimal(str(count)) / per
        if exact >= TOO_MUCH:
            return NO_PRICE
        total = exact.quantize(SMALLEST, ROUND_HALF_UP)
        items.append({"unit": unit, "count": count, "dollars": f"{total - cost:f}"})
        cost = total
        if name:
            fees[name] = rate
        else:
            per_million[unit] = rate
    stated = {unit: _text(rate) for unit, rate in per_million.items() if rate is not None}
    bill: Price = {"source": price.source, "model": price.model, "tier": price.tier, "per_million": stated}
    for fee, rate in fees.items():
        bill[fee] = _text(rate)
    bill["items"] = items
    return cost, bill


def _text(rate: Decimal) -> str:
    """Returns a price as decimal text, without an exponent and without zeros at its end."""
    return f"{rate.normalize():f}"
