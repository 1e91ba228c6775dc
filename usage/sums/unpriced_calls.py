"""Finds which calls need a price, by model and service tier, and proposes the price of the model's family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django.db.models import Count, Max, Min, Q

from usage.call_record import CallRecord, called_model
from usage.custom_prices import service_tier
from usage.ids import first_id
from usage.models import CALLED_MODEL, NEEDS_PRICE, ModelPrice, Request
from usage.money.row_pricing import lacking_prices
from usage.prices import genai_price_list
from usage.prices.price_lookup import LONG_UNITS, TOKEN_UNITS, find_rates
from usage.prices.published_prices import ModelRates, TieredRate
from usage.sums.ranges import TimeRange

MOST_GROUPS = 200
MOST_READ = 1000
LACKING_COLUMNS = ("request_model", "response_model", "route", "service_tier", "started_at", "other_usage")


@dataclass(frozen=True)
class NeededPrice:
    """A model and service tier whose calls have no price, with a proposal for a custom price.

    * `calls`: the number of calls without a price, from `first_at` to `last_at`.
    * `family`: the related model whose price is proposed; empty if no related model has a price.
    * `proposed`: the proposed price, as a map from the fields of a custom price (`usage.models.ModelPrice`) to dollars.
    """

    model: str
    tier: str  # as upstream answered
    calls: int
    first_at: datetime
    last_at: datetime
    family: str = ""
    proposed: Mapping[str, Decimal] = field(default_factory=dict)

    def with_proposal(self, at: datetime) -> NeededPrice:
        """Returns a copy with a proposed price: that of a model of the same family at the time `at`.

        The copy has no proposal if no model of the family has a price.
        """
        family, proposed = propose_custom_price(self.model, self.tier, at)
        return replace(self, family=family, proposed=proposed)

    def as_form(self) -> dict[str, str]:
        """Returns the initial values for the form in which an administrator enters a custom price, by form field.

        The price is to be valid from the day of the first call that needs it.
        """
        tier = service_tier(self.tier)
        return {
            "model": self.model,
            "service_tier": "" if tier == "default" else tier,
            "valid_from": f"{self.first_at:%Y-%m-%d}",
            **{name: f"{rate.normalize():f}" for name, rate in self.proposed.items()},
        }


def read_needed_prices(time_range: TimeRange) -> list[NeededPrice]:
    """Reads which models and service tiers need a price for the calls in a range of time; proposes a price for each.

    Those with the most calls come first. If only a tool's model lacks a price, the call counts for that model. At most
    `MOST_GROUPS` models and tiers, and `MOST_READ` calls with tools, are read. If a newer price list was downloaded, it
    is put into use first.
    """
    genai_price_list.refresh()  # a process that prices no calls does not do it by itself
    calls: Any = Request.objects.filter(
        NEEDS_PRICE, pk__gte=first_id(time_range.start), pk__lt=first_id(time_range.end)
    ).order_by()
    counts = {"calls": Count("pk"), "first_at": Min("started_at"), "last_at": Max("started_at")}
    groups = calls.annotate(model=CALLED_MODEL).values("model", "service_tier").annotate(**counts)
    found: dict[tuple[str, str], NeededPrice] = {}
    for group in groups.order_by("-calls", "model", "service_tier")[:MOST_GROUPS]:
        found[group["model"], group["service_tier"]] = NeededPrice(
            group["model"], group["service_tier"], group["calls"], group["first_at"], group["last_at"]
        )
    for row, (model, tier) in _needed_by_tools(calls):
        own, at = (called_model(row), row["service_tier"]), cast(datetime, row["started_at"])
        if own in found:
            found[own] = replace(found[own], calls=found[own].calls - 1)
        before = found.get((model, tier), NeededPrice(model, tier, 0, at, at))
        first_at, last_at = min(before.first_at, at), max(before.last_at, at)
        found[model, tier] = replace(before, calls=before.calls + 1, first_at=first_at, last_at=last_at)
    needed = sorted(found.values(), key=lambda one: (-one.calls, one.model, one.tier))
    return [one.with_proposal(time_range.end) for one in needed if one.calls > 0]


def _needed_by_tools(calls: Any) -> Iterator[tuple[CallRecord, tuple[str, str]]]:
    """Yields calls that have no cost because a tool hosted by upstream has run another model, which has no price.

    Each item has the call's row, and the name and service tier of the tool's model. At most `MOST_READ` calls with
    tools are read.
    """
    with_tools = calls.filter(Q(other_usage__has_key="svg") | Q(other_usage__has_key="image_model"))
    rows: list[CallRecord] = list(with_tools.values(*LACKING_COLUMNS)[:MOST_READ])
    own_prices = [price.as_custom_price() for price in ModelPrice.objects.all()] if rows else []
    for row in rows:
        for lacking in lacking_prices(row, own_prices)[:1]:
            if lacking[0] != called_model(row):
                yield row, lacking


def propose_custom_price(model: str, tier: str, at: datetime) -> tuple[str, dict[str, Decimal]]:
    """Finds a model of the same family as `model` that has a price; returns its name, and its price as a proposal.

    The price maps the fields of `ModelPrice` to dollars. It is the listed or assumed price in the service tier `tier`
    or, if there is none, in the default tier. Both results are empty if no model of the family has a price.
    """
    for name in _family(model.lower()):
        for asked in dict.fromkeys((service_tier(tier), "default")):
            if price := find_rates(name, asked, at, ()):
                return name, _fields_of(price)
    return "", {}


def _family(model: str) -> Iterator[str]:
    """Yields names of models of the same family, ever shorter, to find a price by: `a-b` and `a` for `a-b-c`.

    If the name begins with a vendor, the name without the vendor comes first: `a-b` and `a` for `vendor/a-b`.
    """
    name = model.rpartition("/")[2]
    if name != model:
        yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name


def _fields_of(price: ModelRates) -> dict[str, Decimal]:
    """Converts a price to a map from the fields of a custom price (`usage.models.ModelPrice`) to dollars.

    If a rate depends on the length of the prompt, it becomes two fields: one for short prompts, one (`long_…`) for the
    longest. If the price of a picture depends on the picture, the highest one is taken.
    """
    found: dict[str, Decimal] = {}
    for unit, rate in price.rates.items():
        if unit not in TOKEN_UNITS or rate is None:
            continue
        found[unit] = rate.base if isinstance(rate, TieredRate) else rate
        if unit in LONG_UNITS and isinstance(rate, TieredRate) and rate.tiers:
            found[f"long_{unit}"] = rate.tiers[-1].price
    fees = {
        "per_minute": price.per_minute,
        "per_web_search": price.per_web_search,
        "per_file_search": price.per_file_search,
        "per_picture": max(price.per_picture.values()) if price.per_picture else None,
    }
    return found | {name: fee for name, fee in fees.items() if fee is not None}
