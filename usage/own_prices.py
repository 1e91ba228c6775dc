"""Owns what an administrator's own price says, and which calls it is for.

It is apart from `usage.money.prices`, whose list prices take a third of a second to import: no command needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class OwnPrice:
    """An administrator's price, in dollars, never negative. `model` is a name or a glob, of the model *answered*.

    Valid from `valid_from` (aware) until just before `valid_until`. No cached or cache-write price means the
    input price, no audio price the text price; the rest is not billed by this price, and a call
    that needs it has no price. Only a web search without a price is left out.
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
        """Returns whether this price is one for `model` (in lower case)."""
        return (
            self.service_tier in ("", tier)
            and self.valid_from <= at
            and (self.valid_until is None or at < self.valid_until)
            and (self.model.lower() == model or fnmatchcase(model, self.model.lower()))
        )

    def rank(self, model: str) -> tuple[bool, int, bool, datetime]:
        """Of several prices that apply, the highest is the one meant."""
        return self.model.lower() == model, len(self.model), self.service_tier != "", self.valid_from
