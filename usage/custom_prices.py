"""Custom prices, which an administrator sets: their content, and the calls for which each one is valid.

It is no part of `usage.prices.price_sources`, because the tables (`usage.models`) import it, and need no list prices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase


def service_tier(named: str | None) -> str:
    """Returns the standard name of a service tier that a request, an answer or a price names.

    `Priority` becomes `priority`; `auto`, `standard` and None become `default`.
    """
    tier = (named or "").strip().lower()
    return "default" if tier in ("", "auto", "standard") else tier


@dataclass(frozen=True)
class CustomPrice:
    """A price that the administrator has set for a model, in dollars, never negative.

    * `valid_from` (aware) and `valid_until`: the beginning of the time in which the price is valid, and its end
      (exclusive).
    * `every_tier`: if true, the price is valid in every service tier; otherwise only in `service_tier`, where an empty
      text means the default tier.
    * `multiplier`: if set, each rate without a value here is the list price for the model and tier times this number.

    Without a `multiplier`, cached input and cache writes without a rate of their own are billed at the rate of input,
    and audio at the rate of text; a call that uses any other unit without a rate has no cost. The fees of hosted tools
    need no rate here (`usage.money.tool_fees`).
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
        """Returns the rank of this price for a model; of several prices, the one with the highest rank is used.

        A price for the model's exact name ranks above all patterns such as `gpt-*`, whatever the service tiers. Of
        patterns, a longer one ranks higher. Between equals, a price for a single service tier ranks above `every_tier`,
        and then a later beginning above an earlier one.
        """
        one_tier = self.service_tier != "" or not self.every_tier
        return self.model.lower() == model, len(self.model), one_tier, self.valid_from

    def stated(self, names: Iterable[str]) -> dict[str, Decimal]:
        """Returns the values that the administrator has filled in among the fields `names`, by field name."""
        return {name: price for name in names if (price := getattr(self, name)) is not None}


# The fields that are prices or a factor of prices.
PRICES = tuple(
    field.name
    for field in fields(CustomPrice)
    if field.name not in {"model", "valid_from", "valid_until", "service_tier", "every_tier"}
)
