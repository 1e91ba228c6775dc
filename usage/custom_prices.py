"""Custom prices, which an administrator sets: their content, and the calls for which each one is valid.

It is no part of `usage.prices.price_lookup`, because the tables (`usage.models`) import it, and need no list prices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase

# Characters of names by which prices are looked up: a row has no more of them. Otherwise a caller could fill the caches
# of prices with names of megabytes.
MAX_MODEL_LENGTH, MAX_TIER_LENGTH = 210, 50


def service_tier(named: str | None) -> str:
    """Returns the standard name of a service tier that a request, an answer or a price names.

    `Priority` becomes `priority`; `auto`, `standard` and None become `default`. A name is cut to `MAX_TIER_LENGTH`.
    """
    tier = (named or "").strip().lower()[:MAX_TIER_LENGTH]
    return "default" if tier in ("", "auto", "standard") else tier


@dataclass(frozen=True)
class CustomPrice:
    """A price that the administrator has set for a model, in dollars, never negative.

    * `valid_from`: the time from which the price is valid (aware).
    * `valid_until`: the time at which the price ends (exclusive), or None.
    * `every_tier`: True if the price is valid in every service tier; then `service_tier` is empty.
    * `service_tier`: otherwise, the only tier in which the price is valid; empty means the default tier.
    * `multiplier`: None, or a factor: then each rate that is None is the list price for the model and tier times this
      factor.

    Without a `multiplier`, cached input and cache writes cost as much as input if their own rate is None, and audio as
    much as text. A call that uses any other unit with a rate of None has an unknown cost. The fees of hosted tools need
    no rate here (`usage.money.tool_fees`).
    """

    model: str
    valid_from: datetime
    valid_until: datetime | None = None
    service_tier: str = ""
    every_tier: bool = False
    multiplier: Decimal | None = None
    # Dollars per million tokens.
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_12h: Decimal | None = None
    output: Decimal | None = None
    # Those of prompts of more than 272,000 tokens; None: the same.
    long_input: Decimal | None = None
    long_cached_input: Decimal | None = None
    long_cache_write: Decimal | None = None
    long_cache_write_12h: Decimal | None = None
    long_output: Decimal | None = None
    audio_input: Decimal | None = None
    cached_audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    image_input: Decimal | None = None
    cached_image_input: Decimal | None = None
    image_output: Decimal | None = None
    characters: Decimal | None = None  # of the text to speak, per million of them
    # Dollars for a minute of audio, for each picture that is made, and for each search.
    per_minute: Decimal | None = None
    per_picture: Decimal | None = None
    per_web_search: Decimal | None = None
    per_file_search: Decimal | None = None

    def applies(self, model: str, tier: str, at: datetime) -> bool:
        """Returns whether this price is for the given model (in lower case) and service tier at the time `at`."""
        return (
            (service_tier(self.service_tier) == tier or (self.every_tier and not self.service_tier))
            and self.valid_from <= at
            and (self.valid_until is None or at < self.valid_until)
            and (self.model.lower() == model or fnmatchcase(model, self.model.lower()))
        )

    def rank(self, model: str) -> tuple[bool, int, bool, datetime]:
        """Returns the rank of this price for `model`.

        If several prices apply to a call, the one with the highest rank is used. These rules decide, in this order:

        1. The exact name of the model ranks above a pattern such as `gpt-*`.
        2. A longer pattern ranks above a shorter one.
        3. A price for one service tier ranks above a price for every tier.
        4. A price that began later ranks above one that began earlier.
        """
        one_tier = self.service_tier != "" or not self.every_tier
        return self.model.lower() == model, len(self.model), one_tier, self.valid_from

    def stated(self, names: Iterable[str]) -> dict[str, Decimal]:
        """Returns those of the fields `names` that the administrator has set, as a dict from name to value."""
        return {name: price for name in names if (price := getattr(self, name)) is not None}


# The fields that are prices or a factor of prices.
PRICES = tuple(
    field.name
    for field in fields(CustomPrice)
    if field.name not in {"model", "valid_from", "valid_until", "service_tier", "every_tier"}
)
