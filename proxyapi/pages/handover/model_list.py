"""The form field of allowed models: boxes to tick for all models with a price, beside a text area for patterns.

It works without scripts. Boxes of allowed models are ticked; other allowed names and patterns, such as `gpt-4o*`, are
lines of the text area. The form sends both, and the field joins them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django import forms
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.safestring import SafeString

from proxyapi.pages.admin_forms import LinesField
from usage.custom_prices import CustomPrice
from usage.models import Dimension, ModelPrice
from usage.page_data.filters import find_names
from usage.prices.price_lookup import find_rates, listed_models, undated_name
from usage.prices.published_prices import ModelRates

# The name of a model as calls state it. The list of prices has others: `ft:gpt-4o`, `decisions:gpt-6-luna`, `gpt-4o*`.
CALLABLE = re.compile(r"[A-Za-z0-9](?:[\w./-]*[A-Za-z0-9])?", re.ASCII)
MAX_USED = 2000  # names of models that are read from the sums
CHOSEN = "{}-chosen"  # the name of the boxes of the form field with the name in the braces


@dataclass(frozen=True)
class KnownModel:
    """A model with a price, as the form of a key or team lists it.

    `price` is the price in words. `is_used` says whether calls to this model are in the ledger's sums.
    """

    name: str
    price: str
    is_used: bool


def custom_prices() -> list[CustomPrice]:
    """Reads from the database the prices that administrators have set."""
    return [row.as_custom_price() for row in ModelPrice.objects.all()]


def known_models() -> list[KnownModel]:
    """Returns all models that have a price now: first those that calls have used, then the others, both by name.

    Leaves out entries of the price list that no call can name, such as `ft:gpt-4o` or `gpt-4o*`.
    """
    custom, now, used = custom_prices(), timezone.now(), _used_models()
    names = listed_models() | {price.model for price in custom}
    rates = {name: find_rates(name.lower(), "default", now, custom) for name in names if CALLABLE.fullmatch(name)}
    models = [
        KnownModel(name, price_in_words(found), name in used) for name, found in rates.items() if found is not None
    ]
    return sorted(models, key=lambda model: (not model.is_used, model.name))


def _used_models() -> set[str]:
    """Returns the names of models that calls have used, at most `MAX_USED`, and the same names without their dates."""
    names = find_names(Dimension.MODEL, "", MAX_USED)
    return {*names, *map(undated_name, names)}


def price_in_words(price: ModelRates) -> str:
    """Returns a model's price in words, mostly in dollars per million tokens: "$0.15 in, $0.6 out".

    The price of tokens is that of a short prompt. Prices by characters, minutes or pictures name their unit. A model
    may also be "free" or, if it has none of these prices, "priced by what is made".
    """
    rates = {unit: price.rate(unit, 0) for unit in ("input", "output", "characters")}
    words = {"input": "{} in", "output": "{} out", "characters": "{} per million characters"}
    parts = [words[unit].format(f"${rate.normalize():f}") for unit, rate in rates.items() if rate is not None]
    if price.per_minute is not None:
        parts.append(f"${price.per_minute.normalize():f} a minute")
    if price.per_picture:
        parts.append(f"${min(price.per_picture.values()).normalize():f} a picture and more")
    return "free" if price.is_free else ", ".join(parts) or "priced by what is made"


class ModelsWidget(forms.Widget):
    """The form widget of allowed models: a text area for patterns, and a box to tick for each model with a price."""

    def __init__(self, textarea: forms.Textarea) -> None:
        super().__init__()
        self.textarea = textarea

    def render(
        self, name: str, value: object, attrs: Mapping[str, object] | None = None, renderer: object = None
    ) -> SafeString:
        """Renders the form field as HTML: a box to tick for each model with a price, and a text area for other lines.

        A line of `value` that is the name of such a model ticks its box. All other lines are in the text area: patterns
        such as `gpt-4o*`, and models without a price.
        """
        allowed, models = [line.strip() for line in str(value or "").split("\n")], known_models()
        known = {model.name for model in models}
        others = "\n".join(line for line in allowed if line not in known)
        field = self.textarea.render(name, others, dict(attrs or {}))
        context = {"textarea": field, "name": CHOSEN.format(name), "models": models, "chosen": known & {*allowed}}
        return render_to_string("admin/proxyapi/models.html", context)

    def value_from_datadict(self, data: Mapping[str, object], files: object, name: str) -> str:
        """Returns the allowed models in a sent form as lines of text: those of the text area, then the ticked models.

        The lines of the text area are not checked here; the form field does so.
        """
        box = CHOSEN.format(name)
        chosen = data.getlist(box) if isinstance(data, MultiValueDict) else []
        return "\n".join([str(data.get(name) or ""), *map(str, chosen)])

    def value_omitted_from_data(self, data: Mapping[str, object], files: object, name: str) -> bool:
        """Returns whether a sent form lacks this field: it has neither the text area nor ticked models."""
        return name not in data and CHOSEN.format(name) not in data


class ModelsField(LinesField):
    """A form field for allowed models: models that are ticked, and lines of patterns; their order has no meaning."""

    def items_of(self, text: str) -> list[str]:
        """Returns the models, and patterns such as `gpt-4o*`, in the field's text, without duplicates."""
        return list(dict.fromkeys(super().items_of(text)))

    def has_changed(self, initial: object, data: object) -> bool:
        """Returns whether a sent form allows other models than the key or team did; another order is no change."""
        before = self.items_of(initial) if isinstance(initial, str) else initial
        return {*(before or ())} != {*self.items_of(str(data or ""))}  # type: ignore[misc]  # `initial` is a list otherwise
