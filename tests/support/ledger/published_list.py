"""Converts the installed price list of genai-prices to the form in which genai-prices publishes lists: JSON."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

from genai_prices.types import ModelPrice

from usage.prices.genai_price_list import bundled


def published() -> list[dict[str, Any]]:
    """Returns a copy of the installed price list that a test may change: its vendors, as JSON."""
    vendors = [
        {name: value for name, value in vars(vendor).items() if name != "extractors"} for vendor in bundled().vendors
    ]
    return list(json.loads(json.dumps([_raw(vendor) for vendor in vendors])))


def models_of(vendors: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns OpenAI's models in a list of vendors, by their names."""
    [openai] = [vendor for vendor in vendors if vendor["id"] == "openai"]
    return {model["id"]: model for model in openai["models"]}


def _raw(value: Any) -> Any:
    """Converts a value of the installed price list to JSON; leaves out empty members, and names `or_` as `or`."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, ModelPrice):
        value = dict(vars(value))
    if isinstance(value, dict):
        return {name.rstrip("_"): _raw(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_raw(one) for one in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | time) else value
