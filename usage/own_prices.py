"""Owns the prices that an administrator sets: what such a price contains, and which calls it is for.

It is not part of `usage.money.prices`, because the list prices there take a third of a second to import, and the tables
(`usage.models`), which import this module, need none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class OwnPrice:
    """The price of a model that the administrator has set, in dollars, never negative.

    The price is valid from `valid_from` (aware) until just before `valid_until`. Without a price for cached input or
    cache writes, the input price applies; without one for audio, the text price. A call that uses any other unit
    without a price has no cost; only what hosted tools cost is known without it (`usage.money.tool_fees`).
    """

    model: str
    valid_from: datetime
    valid_until: datetime | None = None
    service_tier: str = ""
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    output: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    per_minute: Decimal | None = None
    per_web_search: Decimal | None = None

    def applies(self, model: str, tier: str, at: datetime) -> bool:
        """Returns whether this price is for the given model (in lower case) and service tier, and valid at the given
        time.
        """
        return (
            self.service_tier in ("", tier)
            and self.valid_from <= at
            and (self.valid_until is None or at < self.valid_until)
            and (self.model.lower() == model or fnmatchcase(model, self.model.lower()))
        )

    def rank(self, model: str) -> tuple[bool, int, bool, datetime]:
        """Returns a value to sort prices by: of all prices that apply to a model, the one with the highest value is
        used.
        """
        return self.model.lower() == model, len(self.model), self.service_tier != "", self.valid_from
