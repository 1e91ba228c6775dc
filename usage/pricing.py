"""Owns the pricing of rows on their way into the tables: own prices first, then genai-prices."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from usage.models import ModelPrice
from usage.own_prices import OwnPrice
from usage.prices import price_call

REFRESH_SECONDS = 30.0


class Pricer:
    """Prices rows with the own prices in the database, read again every half minute."""

    def __init__(self) -> None:
        self._own: list[OwnPrice] = []
        self._read_at = -REFRESH_SECONDS

    def priced(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows, each with its `cost` in dollars and the `price` it was computed from.

        Raises:
            django.db.Error: the own prices cannot be read.
        """
        if time.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._own = [price.as_own_price() for price in ModelPrice.objects.all()]
            self._read_at = time.monotonic()
        return [self._priced(row) for row in rows]

    def _priced(self, row: Mapping[str, Any]) -> dict[str, Any]:
        started_at = row["started_at"]
        moment = started_at if isinstance(started_at, datetime) else datetime.fromisoformat(started_at)
        cost, price = price_call({**row, "started_at": moment}, self._own)
        return {**row, "cost": None if cost is None else str(cost), "price": price}
