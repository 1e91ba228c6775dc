"""Prices rows on their way into the tables: by custom prices first, then by the list of genai-prices."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from usage.call_record import CallRecord
from usage.models import ModelPrice
from usage.money.billing import price_call
from usage.own_prices import OwnPrice

REFRESH_SECONDS = 30.0


class Pricer:
    """Computes the cost of calls, by the administrator's prices first, then by the published ones.

    `own` are the administrator's prices, which are read from the database every half minute; None until they have been
    read once. Any thread may read `own`.
    """

    def __init__(self) -> None:
        self.own: Sequence[OwnPrice] | None = None
        self._read_at = -REFRESH_SECONDS

    def refresh(self) -> None:
        """Reads the administrator's prices from the database again if they were last read half a minute ago or earlier.

        Raises:
            django.db.Error: the prices cannot be read.
        """
        if time.monotonic() - self._read_at >= REFRESH_SECONDS:
            self.own = [price.as_own_price() for price in ModelPrice.objects.all()]
            self._read_at = time.monotonic()

    def priced(self, rows: Iterable[CallRecord]) -> list[CallRecord]:
        """Returns the rows of calls, each with its `cost` in dollars and the `price` from which the cost was computed.

        Raises:
            django.db.Error: the administrator's prices cannot be read.
        """
        self.refresh()
        return [self._priced(row) for row in rows]

    def _priced(self, row: CallRecord) -> CallRecord:
        cost, price = price_call(row, self.own or ())
        return {**row, "cost": None if cost is None else str(cost), "price": price}
