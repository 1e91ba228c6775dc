"""The usual kinds of keys (presets), whose values can fill in the form of a new key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone

PARAMETER = "preset"  # in the address of the form
FIELD_WORDS = {
    "budget_day": "${} a day",
    "budget_month": "${} a month",
    "budget_total": "${} in total",
    "requests_per_minute": "{} requests per minute",
    "parallel_calls": "{} parallel calls",
}


@dataclass(frozen=True)
class Preset:
    """A usual kind of key, with values that can fill in the form of a new key.

    `name` is its name in URLs, `label` its name on pages. `lifetime` says for how long the key is valid; None means for
    ever.
    """

    name: str
    label: str
    values: Mapping[str, object]
    lifetime: timedelta | None = None

    def filled_words(self) -> str:
        """Returns in words the values that fill in the form, such as `$20 a month, 5 parallel calls`."""
        words = [text.format(self.values[field]) for field, text in FIELD_WORDS.items() if field in self.values]
        return ", ".join([*words, *([f"valid for {self.lifetime.days} days"] if self.lifetime else [])])

    def form_values(self) -> dict[str, str]:
        """Returns the preset's values as texts, in a dict by the names of the form's inputs.

        A time (UTC) has two inputs: one for the date, one for the time of day.
        """
        found: dict[str, str] = {}
        for field, value in self.initial().items():
            if isinstance(value, datetime):
                found |= {f"{field}_0": f"{value:%Y-%m-%d}", f"{field}_1": f"{value:%H:%M:%S}"}
            else:
                found[field] = str(value)
        return found

    def initial(self) -> dict[str, object]:
        """Returns the values that fill in the form of a new key, as a dict by the names of the form's fields."""
        if self.lifetime is None:
            return {**self.values}
        return {**self.values, "expires_at": (timezone.now() + self.lifetime).replace(second=0, microsecond=0)}


# A person is bounded by the month; a service, which nobody watches, by the day, too; an evaluation ends by itself.
PRESETS = (
    Preset("person", "Person: $20 a month", {"budget_month": Decimal(20), "parallel_calls": 5}),
    Preset(
        "service",
        "Service: $20 a day, $200 a month",
        {"budget_day": Decimal(20), "budget_month": Decimal(200), "requests_per_minute": 600, "parallel_calls": 50},
    ),
    Preset(
        "evaluation",
        "Evaluation: $10 in total, for 14 days",
        {"budget_total": Decimal(10), "parallel_calls": 20},
        timedelta(days=14),
    ),
)


def find_preset(name: str | None) -> Preset | None:
    """Returns the preset with this name, such as `person`, to fill in the form of a new key; None if there is none."""
    return next((preset for preset in PRESETS if preset.name == name), None)
