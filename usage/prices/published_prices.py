"""The prices in the list of genai-prices that is in use, and the type that holds any price of a model.

A model has no price here (None) when

* the tier has no listed price at that time. genai-prices has flex, priority and fast of most models from 2026-10-12
  on, and batch from 2026-10-14 on;
* the model is not OpenAI's. The price of a model that anyone may serve (gpt-oss, Llama, DeepSeek, ...) is up to the
  server's owner, so it needs a custom price. Only models sold by a single vendor are looked up (`SOLE_SELLERS`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from usage.prices.genai_price_list import SOLE_SELLERS, PriceList, in_use

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

OPEN_WEIGHTS = "gpt-oss-"
# genai-prices takes any name with "moderation" in it for a moderation model, even a fine-tuned model's.
MODERATIONS = ("omni-moderation-", "text-moderation-")

# genai-prices' name of the price per million tokens, by the ledger's name of the unit.
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
    "characters": "input_mchars",  # of the text to speak
}
# A unit on the left without a price costs what the unit on the right costs: no discount is published, so there is none.
UNDISCOUNTED = {
    "cached_input": "input",
    "cache_write": "input",
    "cached_audio_input": "audio_input",
    "cached_image_input": "image_input",
}

# 12-hour cache writes cost twice the input price (developers.openai.com/api/docs/guides/prompt-caching).
LONG_CACHE_FACTOR = 2
# The units of text tokens, by direction.
TEXT_UNITS = {"input": ("input", "cached_input", "cache_write", "cache_write_12h"), "output": ("output",)}


class LongRate(NamedTuple):
    """The rate for prompts of more than `start` tokens; it applies to all their tokens. Part of a `TieredRate`."""

    start: int
    price: Decimal


class TieredRate(NamedTuple):
    """A rate, in dollars per million tokens, that depends on the length of the prompt.

    `base` is the rate of short prompts. `tiers` has the rates of longer prompts, in ascending order of `start`: the
    last one that starts below the length of the prompt applies.
    """

    base: Decimal
    tiers: tuple[LongRate, ...]


Rate: TypeAlias = Decimal | TieredRate


@dataclass(frozen=True)
class ModelRates:
    """The price of one model in one service tier at one time.

    `rates` maps each unit that is sold by the million, such as `input` (tokens), to dollars per million.
    """

    source: str
    model: str
    tier: str
    rates: Mapping[str, Rate]
    per_minute: Decimal | None = None
    per_web_search: Decimal | None = None
    per_file_search: Decimal | None = None
    per_picture: Mapping[str, Decimal] | None = None  # by patterns of `OtherUsage.picture_format`; the first one counts
    is_provisional: bool = False  # not published for this model and tier: assumed, for example from the model's family
    is_free: bool = False
    has_own_search_fee: bool = False  # the administrator states `per_web_search`, so it is used for every search tool
    states_total: bool = False  # upstream states a total, which must be the sum of input and output

    @property
    def is_by_minute_only(self) -> bool:
        """True if the model is billed by the length of the sound, whatever tokens it has."""
        return self.per_minute is not None and not self.rates

    def rate(self, unit: str, input_tokens: int) -> Decimal | None:
        """Returns the dollars per million of a unit, such as `input` (tokens); None if the unit has no price.

        The rate may depend on `input_tokens`, the length of the prompt. Cached input, or input that is written to the
        cache, costs the same as other input if it has no rate of its own. An exception are 12-hour cache writes, if
        other cache writes have a rate: they cost `LONG_CACHE_FACTOR` times as much as input.
        """
        rate = self.rates.get(unit)
        if rate is None and unit == "cache_write_12h":
            # None is listed for writes to the 12-hour cache: it follows from that of input, by OpenAI's rule.
            into = self.rate("input", input_tokens)
            return into * LONG_CACHE_FACTOR if into is not None and "cache_write" in self.rates else into
        if rate is None and unit in UNDISCOUNTED:
            rate = self.rates.get(UNDISCOUNTED[unit])
        if isinstance(rate, TieredRate):
            return next((tier.price for tier in reversed(rate.tiers) if input_tokens > tier.start), rate.base)
        return rate

    def highest_rates(self, input_tokens: int, kinds: Iterable[str] = ()) -> Mapping[str, Decimal | None]:
        """Returns the highest rate of an input token and that of an output token, as a map: `input` and `output`.

        The rates are in dollars per million; a value is None if there is no rate. They are those of text, of pictures
        that the model makes and, if `kinds` names other kinds of tokens, such as `audio_input`, of these. Rates may
        depend on `input_tokens`, the length of the prompt.
        """
        if not kinds and input_tokens <= self._longest_short_prompt:
            # Looked up once, because each call with a budget needs them.
            return self._highest_short_rates
        return self._highest_rates(input_tokens, kinds)

    @cached_property
    def _highest_short_rates(self) -> Mapping[str, Decimal | None]:
        return self._highest_rates(0, ())

    def _highest_rates(self, input_tokens: int, kinds: Iterable[str]) -> Mapping[str, Decimal | None]:
        highest = {}
        for direction, units in TEXT_UNITS.items():
            # A chat model that makes pictures needs no request for them: its output may be pictures in any call.
            made = ("image_output",) if direction == "output" else ()
            all_units = (*units, *made, *(kind for kind in kinds if kind.endswith(f"_{direction}")))
            rates = [rate for unit in all_units if (rate := self.rate(unit, input_tokens)) is not None]
            highest[direction] = max(rates, default=None)
        return highest

    @cached_property
    def splits(self) -> frozenset[str]:
        """The sides of a call (`input`, `output`) on which image or audio tokens have a rate of their own.

        An audio rate that equals the text rate does not count.
        """
        return frozenset(kind for kind in ("input", "output") if self._splits(kind))

    def _splits(self, kind: str) -> bool:
        text_rate = self.rates.get(kind)
        return f"image_{kind}" in self.rates or self.rates.get(f"audio_{kind}", text_rate) != text_rate

    def rate_texts(self, input_tokens: int) -> Mapping[str, str]:
        """Returns the dollars per million of each unit, such as `input` (tokens), as a map from unit to decimal text.

        Rates may depend on `input_tokens`, the length of the prompt.
        """
        # Pricing needs them for each row, so those for usual prompts are computed once.
        return self._short_rate_texts if input_tokens <= self._longest_short_prompt else self._rate_texts(input_tokens)

    @cached_property
    def _longest_short_prompt(self) -> float:
        tiers = [tier for rate in self.rates.values() if isinstance(rate, TieredRate) for tier in rate.tiers]
        return min((tier.start for tier in tiers), default=inf)

    @cached_property
    def _short_rate_texts(self) -> Mapping[str, str]:
        return self._rate_texts(0)

    def _rate_texts(self, input_tokens: int) -> Mapping[str, str]:
        rates = {unit: self.rate(unit, input_tokens) for unit in self.rates}
        return {unit: decimal_text(rate) for unit, rate in rates.items() if rate is not None}

    def picture_rate(self, picture_format: str) -> Decimal | None:
        """Returns the dollars for one picture of a quality and size (`picture_format`); None if this price has none."""
        by_format = (self.per_picture or {}).items()
        return next((rate for pattern, rate in by_format if fnmatchcase(picture_format, pattern)), None)

    def times(self, factor: Decimal) -> ModelRates:
        """Returns a copy of this price, with rates of tokens, characters, minutes and pictures multiplied by `factor`.

        Fees of searches and containers stay the same: they do not depend on the service tier or the region.
        """
        rates = {unit: _times(rate, factor) for unit, rate in self.rates.items()}
        pictures = None if self.per_picture is None else _times_each(self.per_picture, factor)
        minute = None if self.per_minute is None else self.per_minute * factor
        return replace(self, rates=rates, per_minute=minute, per_picture=pictures)


def decimal_text(dollars: Decimal) -> str:
    """Formats a price in dollars as decimal text, without an exponent and without zeros at the end."""
    return f"{dollars.normalize():f}"


def _times_each(rates: Mapping[str, Decimal], factor: Decimal) -> Mapping[str, Decimal]:
    """Returns the given rates, by name, multiplied by `factor`."""
    return {name: rate * factor for name, rate in rates.items()}


def _times(rate: Rate, factor: Decimal) -> Rate:
    """Returns a rate multiplied by `factor`; in a `TieredRate`, the rate for each length of prompt is multiplied."""
    if isinstance(rate, TieredRate):
        return TieredRate(rate.base * factor, tuple(LongRate(start, price * factor) for start, price in rate.tiers))
    return rate * factor


def _as_rate(listed: Decimal | TieredPrices) -> Rate:
    """Converts a price per million tokens from genai-prices' type to a `Rate`."""
    if isinstance(listed, Decimal):
        return listed
    return TieredRate(listed.base, tuple(LongRate(tier.start, tier.price) for tier in listed.tiers))


def published_rates(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the price that genai-prices lists for a model (in lower case) in a service tier at the time `at`.

    Returns None in these cases:

    * The model or the tier is not listed.
    * Anyone may sell the model, because its weights are open.
    * The price is for something that the ledger does not count.

    Moderation models are free in every tier.
    """
    prices_in_use = in_use()
    found = _find_model(prices_in_use, model)
    if found is None:
        return None
    provider, info = found
    source, is_openais = prices_in_use.source, provider is prices_in_use.openai
    name = info.id if is_openais else f"{provider.id}/{info.id}"
    if model.startswith(MODERATIONS):
        return ModelRates(source, name, tier, {}, is_free=True)
    prices = _prices_in_tier(info, tier, at)
    if prices is None:
        return None
    listed = ((unit, getattr(prices, key)) for unit, key in TOKEN_PRICES.items())
    rates = {unit: _as_rate(price) for unit, price in listed if price is not None}
    hour = prices.input_audio_hours if prices.audio_hours is None else prices.audio_hours
    searches, file_searches = prices.web_searches_kcount, prices.storage_searches_kcount
    if not rates and hour is None:
        return None  # priced by something that the ledger does not count
    return ModelRates(
        source,
        name,
        tier,
        rates,
        hour / 60 if isinstance(hour, Decimal) else None,
        searches / 1000 if isinstance(searches, Decimal) else None,
        file_searches / 1000 if isinstance(file_searches, Decimal) else None,
        states_total=not is_openais,
    )


@lru_cache(maxsize=1024)
def _find_model(prices: PriceList, model: str) -> tuple[Provider, ModelInfo] | None:
    """Finds a model in a price list; returns its vendor and its entry, or None if it is not found.

    OpenAI's models are searched first; those with open weights are not found, since anyone may sell them. A model of
    another vendor is found only if this vendor alone sells its models (`SOLE_SELLERS`), and the name has no `/` or `:`,
    as a reseller's name has.
    """
    info = prices.openai.find_model(model)
    if info is not None and info.id == "moderation" and not model.startswith(MODERATIONS):
        info = None
    if info is not None:
        return None if model.startswith(OPEN_WEIGHTS) else (prices.openai, info)
    if "/" in model or ":" in model:  # a reseller's name, or a local server's
        return None
    vendors = [vendor for vendor in prices.vendors if vendor.model_match and vendor.model_match.is_match(model)]
    if len(vendors) != 1 or vendors[0].id not in SOLE_SELLERS:
        return None
    info = vendors[0].find_model(model)
    return None if info is None else (vendors[0], info)


def _prices_in_tier(info: ModelInfo, tier: str, at: datetime) -> ModelPrice | None:
    """Returns the published prices of a model in a service tier at the time `at`; None if the tier has none."""
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    # Checked first, because genai-prices would answer with the prices of the default tier.
    known = any(
        variant.when.items() <= context.items() and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or ()
    )
    return info.get_prices(at, context) if known or tier == "default" else None
