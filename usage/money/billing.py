"""The cost of a call: from the counts of its row, and the price of its model, to dollars and a bill.

A wrong cost is worse than none, so a call has none (None) when its model has no price (`usage.money.prices`), or when

* its counts are unknown, contradict each other (more cached than input tokens), or hold something the price says
  nothing of (audio tokens of a model without a published audio price);
* the model prices audio or images apart, and upstream did not say how many of the tokens they are;
* another vendor than OpenAI states a total that is not input and output: some leave reasoning out of the output.

Known, and not in the numbers: file search and container fees, the surcharge of regional processing, 12-hour cache
retention; of web searches the fee of models without one in their entry (gpt-4o-search-preview and the like, which
search in every call), the $25 of the older `web_search_preview` tool (a row does not say which tool searched), and
the fixed 8,000 input tokens per search of gpt-4o-mini and gpt-4.1-mini.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Literal, TypeAlias

from usage.answers.tokens import input_details, output_details, whole_count
from usage.call_record import CallRecord, Price, PricedItem, called_model
from usage.money.prices import ModelRates, find_rates, service_tier
from usage.own_prices import OwnPrice

# Units in which only calls with audio or images are billed.
INPUT_KINDS = frozenset({"audio_input", "image_input"})
OUTPUT_KINDS = frozenset({"audio_output", "image_output"})

SMALLEST = Decimal("0.00000001")
TOO_MUCH = Decimal(10**8)  # dollars; the ledger's column cannot hold so much, and no real count costs so much

Fee = Literal["per_minute", "per_web_search"]
# Units whose price is not per million: the name of the price, and the number of units that it is for.
FEES: dict[str, tuple[Fee, int]] = {"audio_seconds": ("per_minute", 60), "web_search": ("per_web_search", 1)}

Priced: TypeAlias = tuple[Decimal | None, Price | None]
NO_PRICE: Priced = (None, None)


@dataclass(frozen=True)
class MaxUsage:
    """The largest numbers of tokens, seconds of audio and web searches that one call can use.

    Tokens may be text or, if `kinds` names them, anything else that has a price of its own, such as `audio_input`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float = 0.0
    web_searches: int = 0
    kinds: frozenset[str] = frozenset()


def highest_cost(model: str, tier: str, at: datetime, most: MaxUsage, own_prices: Sequence[OwnPrice]) -> Decimal | None:
    """Returns the most that a call can cost in dollars if it uses no more than `most`; None if its price is not known.

    All tokens are taken to be of the dearest kind, because nobody knows before the call which of them will be audio,
    image or cached ones. If the cost in the default tier is higher than in `tier`, that one is returned, because
    upstream may answer a call for another tier in the default one.
    """
    asked = service_tier(tier)
    prices = {one: find_rates(model.lower(), one, at, own_prices) for one in (asked, "default")}
    if prices[asked] is None:
        return None
    costs = [_highest(price, most) for price in prices.values() if price is not None]
    known = [cost for cost in costs if cost is not None]
    return min(max(known), TOO_MUCH) if len(known) == len(costs) else None


def _highest(price: ModelRates, most: MaxUsage) -> Decimal | None:
    """Returns the most that a call can cost in dollars at one `price` if it uses no more than `most`.

    Returns None if the price has no rate for something that the call may use.
    """
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
    """Computes the cost of a call in dollars from its row; returns the cost, and the price behind the cost as JSON.

    Dollars have 8 decimals, half rounded up. The items of the price add up to the cost exactly, so the last digit of an
    item may be off by one. `per_million` has the dollars for a million tokens, for a prompt as long as the call's.
    `per_minute` and `per_web_search` are there only if they were used. Cost and price are None if the price is unknown
    or if the counts cannot be trusted.

    The token counts of the row are priced. A call that retrieves a stored response has the counts of the call that
    created the response, so the caller of this function must know whether these have been billed before.
    """
    tier = service_tier(row.get("service_tier"))
    if _is_free(row):
        return _bill(ModelRates("free", "", tier, {}, is_free=True), 0, [])
    started_at = row["started_at"]
    moment = started_at if isinstance(started_at, datetime) else datetime.fromisoformat(started_at)
    price = find_rates(called_model(row).lower(), tier, moment, own_prices)
    if price is None:
        return NO_PRICE
    if price.is_free:
        return _bill(price, 0, [])
    counts = _counts(row, price)
    return NO_PRICE if counts is None else _bill(price, row.get("input_tokens") or 0, counts)


def _is_free(row: CallRecord) -> bool:
    """Returns whether a call is free because no model worked for it: it read or deleted an object or counted tokens."""
    route = row.get("route") or ""
    looks = row.get("method") in {"GET", "DELETE"} and row.get("usage") is None and not route.startswith("/health")
    return looks or route.endswith("/input_tokens") or route.startswith("/v1/conversations")


def _counts(row: CallRecord, price: ModelRates) -> list[tuple[str, int | float]] | None:
    """Returns how much a call used of each unit that has a price, such as `input` tokens; no token counts twice.

    Returns None if the usage is unknown or contradicts itself.
    """
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


def _input_counts(row: CallRecord, price: ModelRates, total: int) -> list[tuple[str, int]] | None:
    """Returns how many of a call's `total` input tokens are billed in each unit, such as `input` and `cached_input`.

    Returns None if the counts contradict each other. If upstream has not stated whether the cached tokens are text,
    audio or image, they count as text first, because a cache lowers the price of text least.
    """
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


def _output_counts(row: CallRecord, price: ModelRates, total: int) -> list[tuple[str, int]] | None:
    """Returns how many of a call's `total` output tokens are billed in each unit, such as `output` and `audio_output`.

    Returns None if the counts contradict each other. Reasoning tokens cost as much as other output tokens.
    """
    details = output_details(row.get("usage") or {})
    split = _audio_and_image(row, price, "output", details, total)
    if split is None or (row.get("reasoning_tokens") or 0) > total:
        return None
    audio, image = split
    return [("output", total - audio - image), ("audio_output", audio), ("image_output", image)]


def _audio_and_image(
    row: CallRecord, price: ModelRates, direction: Literal["input", "output"], details: Mapping[str, object], total: int
) -> tuple[int, int] | None:
    """Returns how many of a call's `total` input or output tokens are billed as audio, and how many as image.

    Returns None if upstream did not state that. Most models bill image tokens as text; for these models the number of
    image tokens is 0.
    """
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


def _bill(price: ModelRates, input_tokens: int, counts: Sequence[tuple[str, int | float]]) -> Priced:
    """Multiplies what a call has used by the rates of its price; returns the cost, and the bill with one item per unit.

    Returns None for both if the price has no rate for one of the units, or if the cost is too large for the ledger. The
    running total is rounded, and each item is the difference of two such totals: so the items add up to the cost, and
    no rounding errors add up.
    """
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
    """Formats a price in dollars as decimal text, without an exponent and without zeros at the end."""
    return f"{rate.normalize():f}"
