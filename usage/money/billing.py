"""Computes the cost of a call in dollars, and its bill, from the counts in its row and the price of its model.

A bill has an item for each kind of tokens that the call has used, for its searches, for the containers in which tools
have run, and for the pictures that tools have made. Calls that upstream does not bill cost $0 (`usage.money.unbilled`).

A call has no cost (None) if no price is known for the model that has answered, nor for the one that the request names,
or if it has used a unit that the price does not state, such as output of a model without an output price. An
administrator's price helps in both cases. A call whose usage is unknown costs 0, and is marked so
(`usage.money.unbilled`). What a reservation assumes of prices and rates, a bill assumes, too: a call that a budget has
admitted must not be free because upstream answers with a name that no list has.

Where upstream does not state a count, the item is estimated, and so is the whole call: the minutes of a container (the
least that is billed), the tokens of a picture without `tool_usage`, and the 8,000 input tokens for each search of
gpt-4o-mini and gpt-4.1-mini, which are added if the stated input tokens are too few to contain them. All tokens of a
call are estimated if its counts are not enough to price it: they contradict each other (more cached than input tokens),
a price for audio or images needs a split that is not stated, they are tokens of a model that is billed by the minute,
or the total is not input plus output (some vendors leave reasoning out of the output; `usage.money.token_units`).
docs/ledger.md lists the costs that are not included.

Over 300 lines, since the highest possible cost of a call and its real cost follow from the same rates and fees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import TypeAlias

from usage.answers.tool_use import MOST_MADE_TOKENS, MOST_PICTURE_TOKENS
from usage.call_record import CallRecord, OtherUsage, Price, PricedItem
from usage.custom_prices import MAX_MODEL_LENGTH, CustomPrice, service_tier
from usage.models import CostKind, Outcome, UsageSource
from usage.money.token_units import UnitCounts, count_units, picture_row
from usage.money.tool_fees import (
    DEFAULT_IMAGE_MODEL,
    LISTED_IMAGE_MODEL,
    Line,
    highest_fees,
    in_window,
    tool_lines,
)
from usage.money.unbilled import (
    COUNTED_AT_END,
    NOT_BILLED,
    NOT_COUNTED,
    has_counts,
    is_unfinished,
    is_usage_known,
    not_counted,
    why_unbilled,
)
from usage.prices.price_lookup import billed_models, find_rates
from usage.prices.published_prices import ModelRates, decimal_text

COMPACTION = "/v1/responses/compact"
PICTURE = "picture"  # the unit of models that take a price for each picture
# Counted from the request: if the whole answer has come, they are no estimate.
CERTAIN_UNITS = frozenset({PICTURE, "characters"})

# The texts in place of a service tier while upstream has not chosen one yet.
UNDECIDED_TIERS = {None, "", "auto"}

SMALLEST = Decimal("0.00000001")
NOTHING = Decimal(0).quantize(SMALLEST)
# Dollars. No real call costs so much, and the columns of the sums hold a million such costs.
TOO_MUCH = Decimal(10**6)

Priced: TypeAlias = tuple[Decimal | None, Price | None]
NO_PRICE: Priced = (None, None)


@dataclass(frozen=True)
class MaxUsage:
    """The most that one call can use: tokens, seconds of audio, searches, pictures and containers.

    * `kinds`: the kinds of tokens that may occur besides text and have prices of their own, such as `audio_input`.
    * `pictures`: the number of pictures that the hosted image tool makes.
    * `picture_models`: the models that may make them; empty stands for the tool's default model.
    * `images`: the number of pictures that the call's own model makes.
    * `search_tool`: `web_search_preview` if this tool may be used, since its searches have their own price; else empty.
    * `answers`: the number of answers that upstream makes at the same time. `output_tokens` are those of all together.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float = 0.0
    web_searches: int = 0
    kinds: frozenset[str] = frozenset()
    file_searches: int = 0
    pictures: int = 0
    picture_models: frozenset[str] = frozenset()
    images: int = 0
    containers: tuple[str, ...] = ()  # by their memory, such as `4g`
    search_tool: str = ""
    answers: int = 1


def highest_cost(
    model: str,
    tier: str,
    at: datetime,
    most: MaxUsage,
    custom_prices: Sequence[CustomPrice],
    possible_tiers: Sequence[str] = (),
) -> Decimal | None:
    """Returns the highest possible cost of one call in dollars, at most `TOO_MUCH`; None if it is unknown.

    `most` is the most that the call can use: tokens, audio, searches, pictures, containers. Every token is priced as
    the most expensive kind. The call may be served in the service tier `tier`, in the default tier or in one of
    `possible_tiers`; the most expensive one counts.

    The cost is unknown if the model has no price in `tier`, if a rate that may be needed is missing in `tier` or the
    default tier, or if pictures of the image tool have no price. One of `possible_tiers` without a price is ignored.
    """
    # Nobody knows before the call which tokens will be audio, image or cached ones, and upstream may answer a call for
    # another tier in the default one.
    name, asked = model.lower()[:MAX_MODEL_LENGTH], service_tier(tier)
    prices = [find_rates(name, one, at, custom_prices) for one in dict.fromkeys((asked, "default"))]
    if prices[0] is None:
        return None
    costs = [_highest(name, price, most) for price in prices if price is not None]
    possible = [find_rates(name, one, at, custom_prices) for one in possible_tiers if one not in (asked, "default")]
    dearer = [_highest(name, price, most) for price in possible if price is not None]
    pictures = _highest_of_pictures(most, at, custom_prices) if most.pictures else NOTHING
    if None in costs or pictures is None:
        return None
    return min(max(cost for cost in (*costs, *dearer) if cost is not None) + pictures, TOO_MUCH)


def _highest_of_pictures(most: MaxUsage, at: datetime, custom_prices: Sequence[CustomPrice]) -> Decimal | None:
    """Returns the highest possible cost, in dollars, of the pictures that the hosted image tool makes for a call.

    If the tool may use several models, the most expensive one counts. Returns None if the cost of one of them is
    unknown.
    """
    costs = [_highest_of_model(name, most, at, custom_prices) for name in most.picture_models or {DEFAULT_IMAGE_MODEL}]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _highest_of_model(name: str, most: MaxUsage, at: datetime, custom_prices: Sequence[CustomPrice]) -> Decimal | None:
    """Returns the highest possible cost, in dollars, of the pictures that the image tool makes with the model `name`.

    If the model has no price, the price of `LISTED_IMAGE_MODEL`, a model in the price list, is used. Returns None if
    that has no price either.
    """
    read, made = most.pictures * MOST_PICTURE_TOKENS, most.pictures * MOST_MADE_TOKENS
    usage = MaxUsage(read, made, kinds=frozenset({"image_input", "image_output"}))
    rates = (find_rates(one, "default", at, custom_prices) for one in (name.lower(), LISTED_IMAGE_MODEL))
    price = next((one for one in rates if one is not None), None)
    return None if price is None else _highest("", price, usage)


def dearest_picture_model(most: MaxUsage, at: datetime, custom_prices: Sequence[CustomPrice]) -> str:
    """Returns the name of the most expensive model with which the hosted image tool may make a call's pictures.

    `most` has the upper bounds of the call's usage; the models are its `picture_models`, of which there must be one. A
    model whose cost is unknown counts as free.
    """
    costs = {name: _highest_of_model(name, most, at, custom_prices) for name in sorted(most.picture_models)}
    return max(costs, key=lambda name: costs[name] or NOTHING)


def _highest(model: str, price: ModelRates, most: MaxUsage) -> Decimal | None:
    """Returns the highest possible cost of a call in dollars, at the given `price`; `most` is the most that it can use.

    Pictures of the hosted image tool are not included. Returns None if the price lacks a rate that the call may need.
    """
    if price.is_free:
        return Decimal(0)
    by_minute = price.per_minute is not None and most.audio_seconds > 0
    by_picture = price.per_picture is not None and most.images > 0
    exact = Decimal(0)
    highest = price.highest_rates(most.input_tokens, most.kinds)
    for count, rate in ((most.input_tokens, highest["input"]), (most.output_tokens, highest["output"])):
        if rate is not None:
            exact += rate * count
        elif count and not by_minute and not by_picture:
            return None
    exact /= 1_000_000
    if price.per_minute is not None:
        exact += price.per_minute * Decimal(str(most.audio_seconds)) / 60
    if price.per_picture is not None:
        exact += max(price.per_picture.values()) * most.images
    exact += highest_fees(model.lower(), price, most.web_searches, most.file_searches, most.containers)
    return min(exact, TOO_MUCH).quantize(SMALLEST, ROUND_CEILING)


def price_call(row: CallRecord, custom_prices: Sequence[CustomPrice]) -> Priced:
    """Computes the cost of a call from its row; returns the dollars, and the bill that explains them.

    * Usually, the items of the bill add up to the dollars exactly (8 decimals).
    * If upstream bills nothing, or the usage is unknown or impossible, the cost is $0, and the bill has a note.
    * If the price of the model is unknown, or lacks a rate, both results are None.
    * If the response goes on in the background, the dollars are None, and the bill says that they are counted at the
      end.

    The caller must check whether another call was billed for the same usage: a call that reads a stored response states
    the usage of that response.
    """
    tier = service_tier(row.get("service_tier"))
    if reason := why_unbilled(row):
        return NOTHING, {"source": NOT_BILLED, "model": "", "tier": tier, "items": [], "note": reason}
    if is_unfinished(row):
        return None, COUNTED_AT_END
    price, models = rates_of_call(row, custom_prices), billed_models(row)
    if price is None:
        needs_price = is_usage_known(row) if models else has_counts(row)
        return NO_PRICE if needs_price else (NOTHING, not_counted(row))
    if price.is_free:
        return _bill(price, 0, [])
    model, used = models[0], row.get("other_usage") or {}
    price = in_window(price, used.get("completion_window"))
    counts, is_certain = count_units(row, price)
    input_tokens = row.get("input_tokens") or 0
    lines = list(_lines(counts or [], price, input_tokens, used.get("picture_format", "")))
    if not is_certain:
        lines = [replace(line, kind=CostKind.ESTIMATED) for line in lines]
    if used or row.get("web_searches") or "search" in model:  # else no tool was used, as by nearly all calls
        lines += tool_lines(row, model, price)
    if used:
        lines += _lines_of_other_models(used, _start(row), custom_prices)
    if counts is None:  # what tools have used is known, or supposed, but not the tokens beside it
        if not lines:
            return NOTHING, not_counted(row)
        lines = [replace(line, kind=CostKind.ESTIMATED) for line in lines]
    cost, bill = _bill(price, input_tokens, lines)
    return (NOTHING, not_counted(row)) if cost == TOO_MUCH else (cost, bill)


def rates_of_call(row: CallRecord, custom_prices: Sequence[CustomPrice]) -> ModelRates | None:
    """Returns the price of a call's model in the call's service tier; None if no price is known.

    This is the price of the model and of the tier that the answer states, or else of the default tier. But if the
    answer states no tier (or `auto`, as the first events of a stream do) because the usage is estimated, or because the
    call is a compaction, it is the price of the tier that the request asks for, marked as provisional. If that tier has
    no price, the default tier counts.

    If the answer states a tier without a price, that of the default tier is assumed; if it states a model without a
    price, that of the model which the request names. Both are marked as provisional.
    """
    # Without these assumptions, nothing would be taken from a budget: for the call it was only asked whether the model
    # that the request names has a price.
    at, names = _start(row), billed_models(row)
    if not names:
        return None
    # No answer came, or it was a compaction, which never states a tier. Upstream may have used another tier.
    stated, asked = row.get("service_tier"), (row.get("other_usage") or {}).get("asked_tier")
    is_estimate = row.get("usage_source") == UsageSource.ESTIMATED or row.get("route") == COMPACTION
    is_unstated = is_estimate and stated in UNDECIDED_TIERS
    if asked and is_unstated and (price := find_rates(names[0], asked, at, custom_prices)) is not None:
        return replace(price, is_provisional=True)
    tier = service_tier(stated)
    if (price := find_rates(names[0], tier, at, custom_prices)) is not None:
        return price
    assumed = (find_rates(name, one, at, custom_prices) for name in names for one in dict.fromkeys((tier, "default")))
    price = next((one for one in assumed if one is not None and not one.is_free), None)
    return None if price is None else replace(price, is_provisional=True)


def _start(row: CallRecord) -> datetime:
    """Returns the time at which a call has begun."""
    started_at = row["started_at"]
    return started_at if isinstance(started_at, datetime) else datetime.fromisoformat(started_at)


def _lines(counts: UnitCounts, price: ModelRates, input_tokens: int, picture_format: str = "") -> Iterator[Line]:
    """Yields the lines of a call's bill for the call's own model, one for each used unit, such as input tokens.

    `input_tokens` is the length of the prompt, and `picture_format` the quality and size of the pictures: rates may
    depend on them. A kind of tokens without a rate costs as much as the dearest one, as in a reservation (`_highest`).
    """
    for unit, count in counts:
        if unit == "audio_seconds":
            yield Line(unit, count, price.per_minute, per=60)
        elif unit == PICTURE:
            yield Line(unit, count, price.picture_rate(picture_format), per=1)
        elif (rate := price.rate(unit, input_tokens)) is not None:
            yield Line(unit, count, rate)
        else:  # such as sound, of a model for which only text has a price
            highest = price.highest_rates(input_tokens).get(unit.rpartition("_")[2])
            yield Line(unit, count, highest, kind=CostKind.ESTIMATED)


def _lines_of_other_models(used: OtherUsage, at: datetime, custom_prices: Sequence[CustomPrice]) -> Iterator[Line]:
    """Yields the lines of a call's bill for models that its hosted tools have run, at the prices of these models.

    An image model without a price is billed like `LISTED_IMAGE_MODEL`, marked as provisional.
    """
    if pictures := used.get("image_tokens"):
        name = used.get("image_model", DEFAULT_IMAGE_MODEL).lower()
        kind = CostKind.ESTIMATED if used.get("image_tokens_estimated") else ""
        price = find_rates(name, "default", at, custom_prices)
        if price is None:
            price = find_rates(LISTED_IMAGE_MODEL, "default", at, custom_prices)
            kind = kind or CostKind.PROVISIONAL
        yield from _lines_of_model(name, price, picture_row(pictures), kind)
    for written in used.get("svg", ()):
        name = str(written.get("model")).lower()
        yield from _lines_of_model(name, find_rates(name, "default", at, custom_prices), picture_row(written), "")


def _lines_of_model(name: str, price: ModelRates | None, row: CallRecord, kind: str) -> Iterator[Line]:
    """Yields the lines of a call's bill for a model other than the call's own, such as a tool's model.

    If the model has no price, or its usage is unknown, yields one line without a rate; a bill with such a line has no
    cost.
    """
    counts, is_certain = (None, True) if price is None else count_units(row, price)
    if price is None or counts is None:
        yield Line("output", row.get("output_tokens") or 0, None, model=name)
        return
    kind = kind or ("" if is_certain else CostKind.ESTIMATED) or (CostKind.PROVISIONAL if price.is_provisional else "")
    for line in _lines(counts, price, row.get("input_tokens") or 0):
        yield replace(line, model=name, source=price.source, kind=line.kind or kind)


def cost_kind(row: CallRecord, price: Price | None) -> str:
    """Returns how certain a call's cost is, as a `CostKind`; an empty text if the call has no cost.

    `price` is the call's bill, or None. `estimated` takes precedence over `provisional`. A cost of $0 because the usage
    is unknown is `estimated`, too.
    """
    if price is None or price == COUNTED_AT_END:
        return ""
    if price["source"] == NOT_COUNTED:
        return CostKind.ESTIMATED
    items = price.get("items", ())
    kinds = {item.get("kind") for item in items}
    is_guess = row.get("usage_source") == UsageSource.ESTIMATED
    certain_units = CERTAIN_UNITS if row.get("outcome") == Outcome.SUCCESS else frozenset()
    if CostKind.ESTIMATED in kinds or (is_guess and any(item["unit"] not in certain_units for item in items)):
        return CostKind.ESTIMATED
    is_provisional = price.get("kind") == CostKind.PROVISIONAL or CostKind.PROVISIONAL in kinds
    return CostKind.PROVISIONAL if is_provisional else CostKind.EXACT


def _bill(price: ModelRates, input_tokens: int, lines: Sequence[Line]) -> Priced:
    """Computes a call's cost and bill from the lines of the bill: each line costs its count times its rate.

    Returns None for both if a line has no rate. If the cost would be `TOO_MUCH` or more, it is `TOO_MUCH`, and the bill
    has no items. `input_tokens` is the length of the prompt, on which the rates that the bill states may depend.
    """
    per_million = {**price.rate_texts(input_tokens)}
    bill: Price = {"source": price.source, "model": price.model, "tier": price.tier}
    items: list[PricedItem] = []
    exact, cost = Decimal(0), NOTHING
    for line in lines:
        if line.rate is None:
            return NO_PRICE
        exact += line.rate * Decimal(str(line.count)) / line.per
        if exact >= TOO_MUCH:
            return TOO_MUCH, bill
        # Only the running total is rounded, and an item is the difference of two. So items add up to the cost, and
        # rounding errors do not accumulate, but the last digit of an item may be off by one.
        total = exact.quantize(SMALLEST, ROUND_HALF_UP)
        item: PricedItem = {"unit": line.unit, "count": line.count, "dollars": f"{total - cost:f}"}
        cost = total
        has_origin = line.model or line.source or line.kind
        if line.unit == "audio_seconds":
            bill["per_minute"] = decimal_text(line.rate)
        elif line.unit == "web_search":
            bill["per_web_search"] = decimal_text(line.rate)
        elif has_origin or line.unit == PICTURE:
            item["rate"] = decimal_text(line.rate)
        elif line.unit not in per_million:
            per_million[line.unit] = decimal_text(line.rate)
        items.append(_with_origin(item, line) if has_origin else item)
    bill["per_million"] = per_million
    bill["items"] = items
    if price.is_provisional:
        bill["kind"] = CostKind.PROVISIONAL
    return cost, bill


def _with_origin(item: PricedItem, line: Line) -> PricedItem:
    """Copies the model, price source and kind of cost from a bill's line to `item`, its form in the ledger.

    Facts that `line` lacks are not copied. Returns `item`.
    """
    if line.model:
        item["model"] = line.model
    if line.source:
        item["source"] = line.source
    if line.kind:
        item["kind"] = line.kind
    return item
