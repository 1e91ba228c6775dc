"""Owns which calls need a price: by model and service tier, each with a price that the model's family suggests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Min
from genai_prices.types import TieredPrices

from usage.custom_prices import service_tier
from usage.ids import first_id
from usage.models import CALLED_MODEL, NEEDS_PRICE, Request
from usage.prices.price_sources import LONG_UNITS, TOKEN_UNITS, find_rates
from usage.prices.published_prices import ModelRates
from usage.sums.ranges import TimeRange

MOST_GROUPS = 200


@dataclass(frozen=True)
class NeededPrice:
    """A model and a service tier in which calls have no price, with a proposal for a custom price.

    `family` is the listed model whose price is proposed; empty if no related model has a price. `proposed` maps the
    fields of a custom price (`usage.models.ModelPrice`) to dollars. `calls` is the number of calls without a price,
    from `first_at` to `last_at`.
    """

    model: str
    tier: str  # as upstream answered
    calls: int
    first_at: datetime
    last_at: datetime
    family: str = ""
    proposed: Mapping[str, Decimal] = field(default_factory=dict)

    def as_form(self) -> dict[str, str]:
        """Returns the initial values of the form for a custom price, which is valid from the first call's day on."""
        tier = service_tier(self.tier)
        return {
            "model": self.model,
            "service_tier": "" if tier == "default" else tier,
            "valid_from": f"{self.first_at:%Y-%m-%d}",
            **{name: f"{rate.normalize():f}" for name, rate in self.proposed.items()},
        }


def read_needed_prices(time_range: TimeRange) -> list[NeededPrice]:
    """Returns the models and tiers of the calls in a range of time that need a price, those with the most calls first.

    Returns at most `MOST_GROUPS` of them.
    """
    calls: Any = Request.objects.filter(
        NEEDS_PRICE, pk__gte=first_id(time_range.start), pk__lt=first_id(time_range.end)
    ).order_by()
    counts = {"calls": Count("pk"), "first_at": Min("started_at"), "last_at": Max("started_at")}
    groups = calls.annotate(model=CALLED_MODEL).values("model", "service_tier").annotate(**counts)
    needed = []
    for group in groups.order_by("-calls", "model", "service_tier")[:MOST_GROUPS]:
        tier = group.pop("service_tier")
        family, proposed = propose_custom_price(group["model"], tier, time_range.end)
        needed.append(NeededPrice(**group, tier=tier, family=family, proposed=proposed))
    return needed


def propose_custom_price(model: str, tier: str, at: datetime) -> tuple[str, dict[str, Decimal]]:
    """Returns a listed model of the given model's family, and its price by the names of a custom price's fields.

    Both are empty if no model of the family has a price.
    """
    for name in _family(model.lower()):
        for asked in dict.fromkeys((service_tier(tier), "default")):
            if price := find_rates(name, asked, at, ()):
                return name, _fields_of(price)
    return "", {}


def _family(model: str) -> Iterator[str]:
    """Yields shorter names under which a model's family may be listed: for `a-b-c`, these are `a-b` and `a`.

    A vendor's name before the last `/` is left out; if there is one, the rest of the name is yielded first.
    """
    name = model.rpartition("/")[2]
    if name != model:
        yield name
    while "-" in name:
        name = name.rpartition("-")[0]
        yield name


def _fields_of(price: ModelRates) -> dict[str, Decimal]:
    """Converts a price to a map from the field names of a custom price (`usage.models.ModelPrice`) to dollars."""
    found: dict[str, Decimal] = {}
    for unit, rate in price.rates.items():
        if unit not in TOKEN_UNITS or rate is None:
            continue
        found[unit] = rate.base if isinstance(rate, TieredPrices) else rate
        if unit in LONG_UNITS and isinstance(rate, TieredPrices) and rate.tiers:
            found[f"long_{unit}"] = rate.tiers[-1].price
    fees = {
        "per_minute": price.per_minute,
        "per_web_search": price.per_web_search,
        "per_file_search": price.per_file_search,
        "per_picture": max(price.per_picture.values()) if price.per_picture else None,
    }
    return found | {name: fee for name, fee in fees.items() if fee is not None}
