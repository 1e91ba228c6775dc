"""Finds the age of the price lists, and the models of recent calls that they lack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches

from django.db.models import Count, Q, QuerySet

from usage.custom_prices import service_tier
from usage.ids import first_id
from usage.models import CALLED_MODEL, CostKind, Request
from usage.money.unbilled import COUNTED_AT_END
from usage.prices.genai_price_list import in_use, refresh
from usage.prices.price_corrections import corrections
from usage.prices.price_lookup import list_rates, listed_models
from usage.prices.published_prices import ModelRates

RECENT = timedelta(days=30)
LEAST_LIKENESS = 0.75  # of two names, from 0 to 1: gpt-6.3-sol and gpt-6.2-sol have 0.9


@dataclass(frozen=True)
class PriceLists:
    """The facts about the prices in use: those in genai-prices' list, and the gateway's corrections to this list.

    * `newest_price`: the latest day from which a price of OpenAI in the list is valid.
    * `fetched_at`: the time at which the list was downloaded; None if the list is the one in the package.
    * `corrections`: the number of corrections.
    * `corrections_read`: the latest day on which somebody compared a correction with its source, such as a price page.
    """

    source: str
    newest_price: date
    corrections: int
    corrections_read: date
    fetched_at: datetime | None = None


@dataclass(frozen=True)
class LackingPrice:
    """A model and service tier of recent calls that has no price, or (`is_provisional`) only an assumed one.

    `proposal` is a price to use: that of the model itself or, if it has none, that of the listed model with the most
    similar name. It is None if there is no such price.
    """

    model: str
    tier: str
    calls: int
    is_provisional: bool
    proposal: ModelRates | None


def price_lists() -> PriceLists:
    """Returns the source and age of the prices in use; first puts a newly downloaded price list into use."""
    refresh()
    prices = in_use()
    return PriceLists(
        source=prices.source,
        newest_price=prices.newest_price,
        fetched_at=prices.fetched_at,
        corrections=len(corrections()),
        corrections_read=max(date.fromisoformat(correction.read) for correction in corrections()),
    )


def lacking_prices(now: datetime | None = None) -> list[LackingPrice]:
    """Returns the models and service tiers of calls of the last 30 days that lack a price or have an assumed one.

    Those without a price come first. Both parts are sorted by the number of calls, the most first. Calls whose cost
    will only be known when their response has ended are left out.
    """
    now = now or datetime.now(UTC)
    recent = Request.objects.filter(request_id__gt=first_id(now - RECENT))
    lacking = recent.filter(Q(cost__isnull=True) & (Q(price=None) | ~Q(price=COUNTED_AT_END)))
    assumed = recent.filter(cost_kind=CostKind.PROVISIONAL)
    return [*_grouped(lacking, now, is_provisional=False), *_grouped(assumed, now, is_provisional=True)]


def nearest_price(model: str, tier: str, at: datetime) -> ModelRates | None:
    """Returns a model's listed or assumed price at the time `at`, in the service tier `tier`.

    If it has none, returns the price of the listed model with the most similar name. Returns None if no name is similar
    enough, or if the similar model has no price in this tier.
    """
    price = list_rates(model.lower(), tier, at)
    if price is None and (alike := get_close_matches(model.lower(), listed_models(), n=1, cutoff=LEAST_LIKENESS)):
        return list_rates(alike[0], tier, at)
    return price


def _grouped(calls: QuerySet[Request], now: datetime, *, is_provisional: bool) -> Iterator[LackingPrice]:
    """Groups calls by model and service tier; yields a `LackingPrice` for each group, the group with most calls first.

    `is_provisional` is true if the prices of all `calls` are assumed ones, false if all lack a price.
    """
    groups = calls.annotate(called_model=CALLED_MODEL).values_list("called_model", "service_tier")
    for model, tier, number in groups.annotate(number=Count("pk")).order_by("-number"):
        billed = service_tier(tier)
        yield LackingPrice(model, billed, number, is_provisional, nearest_price(model, billed, now))
