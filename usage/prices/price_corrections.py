"""Corrections of prices that genai-prices lacks, or lists differently than OpenAI: `price_corrections.json`.

Each entry of the file is for some `models` (names, or patterns such as `ft:o4-mini-2025-04-16*`) and `tiers` (`*`:
all), from `valid_from` until just before `valid_until` (days in UTC; null: until further notice), and has one of

* `per_million`: dollars per million tokens by unit, and `per_million_long`: those of prompts of more than 272,000
  tokens. They replace the listed rates of these units; other listed rates stay;
* `per_picture`: dollars for a picture, by patterns of its quality and size such as `hd 1024x1024`; the first that fits
  counts;
* `factor`: the price in these tiers is this multiple of the default tier's;
* `same_as`: the model costs what this other one does.

`source` is the address where the price was read, and `read` the day. A test shows when genai-prices has the same price
as an entry, so that the entry can be removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from usage.prices.published_prices import LongRate, ModelRates, Rate, TieredRate

FILE = Path(__file__).with_name("price_corrections.json")
LONG_PROMPT_TOKENS = 272_000


@dataclass(frozen=True)
class Correction:
    """A correction of published prices: one entry of `price_corrections.json`.

    It has prices that genai-prices lacks or has wrong, for some models and service tiers from one day on. The module's
    docstring explains the fields.
    """

    models: tuple[str, ...]
    tiers: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime | None
    source: str
    read: str
    rates: Mapping[str, Rate]
    factor: Decimal | None = None
    same_as: str = ""
    per_picture: Mapping[str, Decimal] | None = None

    def applies(self, model: str, tier: str, at: datetime) -> bool:
        """Returns whether this correction is valid for a model (in lower case) in a service tier at the time `at`."""
        return (
            any(fnmatchcase(model, pattern) for pattern in self.models)
            and (tier in self.tiers or "*" in self.tiers)
            and self.valid_from <= at
            and (self.valid_until is None or at < self.valid_until)
        )

    @property
    def origin(self) -> str:
        """The address at which the corrected price was read, and the day of the reading, as one text.

        It is stored in a call's row as the source of the call's price.
        """
        return f"{self.source} (read {self.read})"


@cache
def corrections() -> Sequence[Correction]:
    """Returns all entries of the file `price_corrections.json`."""
    return [_correction(entry) for entry in json.loads(FILE.read_text())]


def corrections_of(model: str, tier: str, at: datetime) -> list[Correction]:
    """Returns the price corrections that are valid for a model (in lower case) in a service tier at the time `at`."""
    return [correction for correction in corrections() if correction.applies(model, tier, at)]


def corrected(model: str, tier: str, listed: ModelRates | None, correction: Correction) -> ModelRates:
    """Returns a model's `listed` price with a correction applied: its rates replace the listed rates of the same units.

    A unit is, for example, input tokens. Prices of pictures are replaced as a whole. If `listed` is None, the result
    has only the correction's prices.
    """
    if listed is None:
        return ModelRates(correction.origin, model, tier, correction.rates, per_picture=correction.per_picture)
    keeps_any = any(unit not in correction.rates for unit in listed.rates)
    source = f"{listed.source}; {correction.origin}" if keeps_any else correction.origin
    pictures = correction.per_picture or listed.per_picture
    return replace(listed, source=source, rates={**listed.rates, **correction.rates}, per_picture=pictures)


def _correction(entry: Mapping[str, Any]) -> Correction:
    """Converts an entry of `price_corrections.json`, as parsed JSON, to a `Correction`."""
    long = entry.get("per_million_long", {})
    rates = {unit: _rate(text, long.get(unit)) for unit, text in entry.get("per_million", {}).items()}
    until, factor = entry["valid_until"], entry.get("factor")
    pictures = {pattern: Decimal(text) for pattern, text in entry.get("per_picture", {}).items()}
    return Correction(
        models=tuple(entry["models"]),
        tiers=tuple(entry["tiers"]),
        valid_from=_day(entry["valid_from"]),
        valid_until=None if until is None else _day(until),
        source=entry["source"],
        read=entry["read"],
        rates=rates,
        factor=None if factor is None else Decimal(factor),
        same_as=entry.get("same_as", ""),
        per_picture=pictures or None,
    )


def _rate(text: str, long: str | None) -> Rate:
    """Converts an entry's rate, a decimal text in dollars, to a `Rate`.

    If `long` is given, that is the rate for prompts of more than 272,000 tokens (`LONG_PROMPT_TOKENS`).
    """
    rate = Decimal(text)
    return rate if long is None else TieredRate(rate, (LongRate(LONG_PROMPT_TOKENS, Decimal(long)),))


def _day(text: str) -> datetime:
    """Returns the first instant of a day in UTC, from text such as `2026-11-17`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
