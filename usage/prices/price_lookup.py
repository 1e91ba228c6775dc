"""Finds the price of a model at one time, in one service tier.

The sources, in this order: a custom price (given as an argument, so that nothing is read during a call), the file of
corrections (`usage.prices.price_corrections`), genai-prices' list (`usage.prices.published_prices`). If none of them
has a price, a likely one is assumed from OpenAI's other prices, and marked as provisional:

* a tier without a listed price costs the default tier's price times the factor that OpenAI publishes for this tier of
  other models (`TIER_FACTORS`);
* a model with a date in its name that is not listed costs the same as the name without the date. That may be wrong: the
  input of gpt-4o-2024-05-13 costs twice that of gpt-4o;
* a fine-tuned model that is not listed costs the same as one with another date or, if none of these is listed, as its
  base model. Those that are listed cost up to six times as much as their base models, so this may be too low.

If none of these applies, a model has no price (None).

On a regional host of OpenAI (`REGIONAL_PRICES`), the tokens of newer models cost 10 percent more than listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from urllib.parse import urlsplit

from django.conf import settings

from usage.call_record import CallRecord
from usage.custom_prices import MAX_MODEL_LENGTH, CustomPrice
from usage.prices.genai_price_list import PriceList, in_use, names_in
from usage.prices.price_corrections import LONG_PROMPT_TOKENS, corrected, corrections, corrections_of
from usage.prices.published_prices import (
    TOKEN_PRICES,
    UNDISCOUNTED,
    LongRate,
    ModelRates,
    TieredRate,
    published_rates,
)

_CORRECTED = frozenset(name for correction in corrections() for name in correction.models if "*" not in name)
# How much a tier costs, as a multiple of the default one. Flex and batch: developers.openai.com/api/docs/guides/
# flex-processing and /guides/batch. Fast mode, once named priority processing: 2 for the current models
# (/models/gpt-6.2-sol; 1.7 to 2.5 for older ones, all of which are listed). Ultrafast: 6 (/guides/ultrafast-mode).
# Scale is bought in advance, not by the token: what it costs is assumed to be what the default tier does. All were read
# on 2026-11-28.
TIER_FACTORS = {
    "flex": Decimal("0.5"),
    "batch": Decimal("0.5"),
    "priority": Decimal(2),
    "fast": Decimal(2),
    "ultrafast": Decimal(6),
    "scale": Decimal(1),
}
# Two names of one tier (openai.com/api-fast-mode, read 2026-11-28).
SAME_TIER = {"fast": "priority", "priority": "fast"}

# The models that work where a request names none. Variations: "Default Value: dall-e-2" (OpenAI's OpenAPI document, as
# its generated clients repeat it; read 2026-11-28). Moderations: all models are free.
IMPLIED_MODELS = {"/v1/images/variations": "dall-e-2", "/v1/moderations": "omni-moderation-latest"}

DECISIONS = "decisions:"  # how the names of models begin as they are billed on the route /v1/decisions

OWN = "own"  # the source of an administrator's price
# The rates that an administrator's price can state, and those that can differ for long prompts.
TOKEN_UNITS = (*TOKEN_PRICES, "cache_write_12h")
LONG_UNITS = ("input", "cached_input", "cache_write", "cache_write_12h", "output")

# Data residency: "a 10% uplift for models released on or after March 5, 2026, that are eligible"
# (developers.openai.com/api/docs/guides/data-residency). The first names are eligible by LiteLLM's price list 1.110.2;
# other models, whose names begin like the second ones, are assumed to be. Both were read on 2026-11-28.
REGIONAL_FACTOR = Decimal("1.1")
REGIONAL_MODELS = frozenset({
    "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-pro", "gpt-5.5", "gpt-5.5-pro", "gpt-5.6", "gpt-5.6-luna",
    "gpt-5.6-sol", "gpt-5.6-terra", "gpt-6-astra", "gpt-6-astra-law", "gpt-6-luna", "gpt-6-rosalind", "gpt-6-sol",
    "gpt-6.1-sol", "gpt-6.1-terra", "gpt-realtime-2.1", "gpt-realtime-2.1-mini",
})  # fmt: skip
SUPPOSED_REGIONAL = ("gpt-6-", "gpt-6.")
OPENAI_HOST = "api.openai.com"

# With the year or, as until 2024, with month and day only.
DATE = re.compile(r"-(?:20\d\d-?[01]\d-?[0-3]\d|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))$")  # in SQL, too

# `ft:gpt-4o-2024-08-06:org:suffix:id:ckpt-step-90`, where only the base model is certain to be there; as until 2023
# `davinci:ft-org-2023-03-01-12-00-00`; as Azure has it `gpt-4o-2024-08-06.ft-0123456789abcdef`.
_FINE_TUNED = re.compile(r"ft:([^:]+)(?::.*)?|([^:]+)[:.]ft-.+")


def undated_name(model: str) -> str:
    """Removes the date at the end of a model's name: `gpt-4o-2024-08-06` becomes `gpt-4o`, and `gpt-4-0613` `gpt-4`.

    A name without a date is returned unchanged.
    """
    return DATE.sub("", model)


def base_model(model: str) -> str:
    """Returns the name of a fine-tuned model's base model, such as `gpt-4o` for `ft:gpt-4o:org::id`.

    The result is empty if the model, by its name, is not fine-tuned.
    """
    found = _FINE_TUNED.fullmatch(model)
    return (found[1] or found[2]) if found else ""


def listed_models() -> frozenset[str]:
    """Returns the exact names of OpenAI's models in the price list, and of models in our corrections of it."""
    return names_in(in_use()) | _CORRECTED


def billed_models(row: CallRecord) -> list[str]:
    """Returns the names, in lower case, under which the price of a call's model is looked up; the first one counts.

    They are the model that answered, then the one that the request names or the route implies. On `/v1/decisions`,
    where prices differ, they have the prefix `decisions:`. The list may be empty.
    """
    route = row.get("route") or ""
    named = (row.get("response_model"), row.get("request_model") or IMPLIED_MODELS.get(route))
    prefix = DECISIONS if route == "/v1/decisions" else ""
    return [f"{prefix}{name}" for name in dict.fromkeys(name.lower() for name in named if name)]


def find_rates(model: str, tier: str, at: datetime, custom_prices: Sequence[CustomPrice]) -> ModelRates | None:
    """Returns the price of a model (in lower case) in a service tier at the time `at`; None if no price is known.

    An administrator's price comes first, then a listed price, then an assumed one. Prices on `/v1/decisions` differ:
    there, `model` has the prefix `decisions:`. If it has no price with this prefix, its usual price is assumed.
    """
    model = model[:MAX_MODEL_LENGTH]
    own = _custom_rates(custom_prices, model, tier, at) if custom_prices else None
    found = own or list_rates(model, tier, _minute(at))
    if found is None and model.startswith(DECISIONS):
        usual = find_rates(model.removeprefix(DECISIONS), tier, at, custom_prices)
        return None if usual is None else replace(usual, is_provisional=True)
    return found


def _custom_rates(custom_prices: Sequence[CustomPrice], model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the price, among those that an administrator has set, that fits a model, service tier and time best.

    If none names the tier `fast` or `priority`, those that name the other of the two fit, too. Audio without a rate
    costs what text does. Returns None if none fits, or if the best one is a multiple of the listed price and no price
    is listed.
    """
    fitting = [price for price in custom_prices if price.applies(model, tier, at)]
    if tier in SAME_TIER and not any(price.service_tier for price in fitting):
        # The price of the tier's other name counts if none names the tier.
        fitting += [price for price in custom_prices if price.applies(model, SAME_TIER[tier], at)]
    if not fitting:
        return None
    own = max(fitting, key=lambda price: price.rank(model))
    if own.multiplier is None:
        price = _with_custom_rates(own, ModelRates(OWN, own.model, tier, {}))
        # Audio costs what text does, where the administrator says nothing of it.
        as_text = {f"audio_{kind}": price.rates[kind] for kind in ("input", "output") if kind in price.rates}
        return replace(price, rates={**as_text, **price.rates})
    listed = list_rates(model, tier, _minute(at))
    if listed is None:
        return None
    source = f"{OWN}: {own.multiplier.normalize():f} times {listed.source}"
    return _with_custom_rates(own, replace(listed.times(own.multiplier), source=source))


def _with_custom_rates(own: CustomPrice, price: ModelRates) -> ModelRates:
    """Returns a copy of `price` in which the rates and fees of the administrator's price `own` replace the others."""
    rates = {**price.rates, **own.stated(TOKEN_UNITS)}
    for name, long in own.stated(f"long_{unit}" for unit in LONG_UNITS).items():
        unit = name.removeprefix("long_")
        short = rates.get(unit, rates.get(UNDISCOUNTED.get(unit, "")))
        if short is not None:
            base = short.base if isinstance(short, TieredRate) else short
            rates[unit] = TieredRate(base, (LongRate(LONG_PROMPT_TOKENS, long),))
    return replace(
        price,
        rates=rates,
        per_minute=price.per_minute if own.per_minute is None else own.per_minute,
        per_web_search=price.per_web_search if own.per_web_search is None else own.per_web_search,
        per_file_search=price.per_file_search if own.per_file_search is None else own.per_file_search,
        per_picture=price.per_picture if own.per_picture is None else {"*": own.per_picture},
        has_own_search_fee=own.per_web_search is not None,
    )


def _minute(at: datetime) -> datetime:
    """Cuts a time to the minute, in UTC, so that it can be a part of a key in the cache of prices."""
    # Prices begin only at full minutes.
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def list_rates(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the listed price of a model, or else an assumed (provisional) one; None if there is neither.

    The price includes the extra for regional processing, if upstream charges that. Prices that an administrator has
    entered are not considered.
    """
    price = global_rates(model, tier, at)
    if price is None or not _may_cost_more(model) or not is_regional(settings.OPENAI_BASE_URL):
        return price
    return _regional(price, model)


def is_regional(base_url: str) -> bool:
    """Returns whether upstream charges extra for processing data in one region.

    The setting `REGIONAL_PRICES` decides or, if it is unset, the host in `base_url`.
    """
    if settings.REGIONAL_PRICES is not None:
        return settings.REGIONAL_PRICES
    return _is_region_of_openai(base_url)


@cache
def _is_region_of_openai(base_url: str) -> bool:
    """Returns whether a base URL leads to OpenAI's API in one region, such as `us.api.openai.com`."""
    # Cached, because it is asked for each row.
    return (urlsplit(base_url).hostname or "").endswith(f".{OPENAI_HOST}")


@lru_cache(maxsize=4096)
def _may_cost_more(model: str) -> bool:
    """Returns whether OpenAI charges extra for regional processing of a model, or of its base model."""
    family = undated_name(base_model(model) or model)
    # Cached, because it is asked for each row.
    return family in REGIONAL_MODELS or family.startswith(SUPPOSED_REGIONAL)


def _regional(price: ModelRates, model: str) -> ModelRates:
    """Returns `price` with the extra for regional processing; to be called only for models with this extra."""
    source = f"{price.source}; regional processing"
    is_provisional = price.is_provisional or undated_name(model) not in REGIONAL_MODELS
    return replace(price.times(REGIONAL_FACTOR), source=source, is_provisional=is_provisional)


def global_rates(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the listed or assumed price of a model without the extra for regional processing; None if unknown.

    Prices that an administrator has entered are not considered.
    """
    return cached_rates(in_use(), model, tier, at)


@lru_cache(maxsize=4096)
def cached_rates(_prices: PriceList, model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the listed or assumed price of a model, from a cache; None if it is unknown.

    If a model with a date in its name, or a fine-tuned model, has no price, that of a related model is assumed.
    `_prices`, the price list in use, is a part of the cache's key, so that a new list has prices of its own.
    """
    price, base = _in_tier(model, tier, at), base_model(model)
    # The list takes names such as `gpt-4o-realtime-preview:ft-…` for that of the base model, which they begin with.
    if price is not None and (not base or model.startswith("ft:") or ".ft-" in price.model):
        return price
    for name in _related_names(model):
        price = _in_tier(name, tier, at)
        # An estimate of $0 would be none; OpenAI fine-tunes no free model.
        if price is not None and not (price.is_free and base):
            return replace(price, is_provisional=True)
    return None


def _related_names(model: str) -> Iterator[str]:
    """Yields the names of the models whose price may be assumed for `model`, the likeliest first."""
    if (family := undated_name(model)) != model:
        yield family
    if base := base_model(model):
        yield from dict.fromkeys((f"ft:{base}", f"ft:{undated_name(base)}", base, undated_name(base)))


def _in_tier(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the listed or assumed price of the model with exactly this name in a service tier; None if there is none.

    If a model of OpenAI has no listed price for the tier, the result is its price in the default tier times a factor:
    that of `price_corrections.json` or else, as an assumed price, the usual factor of the tier (`TIER_FACTORS`).
    """
    listed = _listed(model, tier, at) or _listed(model, SAME_TIER.get(tier, tier), at)
    if listed is not None or tier == "default":
        return listed if listed is None else replace(listed, tier=tier)
    default = _listed(model, "default", at)
    if default is None or default.is_free or default.states_total:  # another vendor's tiers are not OpenAI's
        return None
    for correction in corrections_of(model, tier, at):
        if correction.factor is not None:
            source = f"{default.source}; {correction.origin}"
            return replace(default.times(correction.factor), source=source, tier=tier)
    factor = TIER_FACTORS.get(tier)
    return None if factor is None else replace(default.times(factor), tier=tier, is_provisional=True)


def _listed(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns the published price of a model in a service tier, with corrections applied; None if there is none."""
    price = published_rates(model, tier, at)
    for correction in corrections_of(model, tier, at):
        if correction.same_as:
            price = _listed(correction.same_as, tier, at)
        elif correction.rates or correction.per_picture:
            price = corrected(model, tier, price, correction)
    return price
