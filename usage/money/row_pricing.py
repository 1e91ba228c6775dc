"""Prices rows on their way into the tables: by custom prices first, then by the price lists."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from usage.call_record import CallRecord, called_model
from usage.custom_prices import CustomPrice
from usage.models import Dimension, ModelPrice, Request, Span, UsageTotal
from usage.money.billing import cost_kind, price_call, rates_of_call
from usage.prices import genai_price_list
from usage.prices.price_lookup import find_rates

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
MOST_ALERTS = 100  # models of which one process writes to the log that they have no price
ALERTED = timedelta(days=30)  # for which no process writes so again of the same model


class Pricer:
    """Calculator of the cost of calls: from the administrator's prices first, then from the published ones.

    `own` are the administrator's prices, which are read from the database every half minute; None until they have been
    read once. Any thread may read `own`.
    """

    def __init__(self) -> None:
        self.own: Sequence[CustomPrice] | None = None
        self._read_at = -REFRESH_SECONDS
        self._alerted: set[str] = set()  # models without a price, of which the log says so already

    def refresh(self, *, loads_list: bool = True) -> bool:
        """Reads the prices again if the last reading was at least half a minute ago; returns whether it has read them.

        The administrator's prices come from the database, the price list from its file. An unreadable file is ignored,
        and the present list stays. With `loads_list` false, a process without a price list does not load one now.

        Raises:
            django.db.Error: the prices cannot be read.
        """
        if time.monotonic() - self._read_at < REFRESH_SECONDS:
            return False
        genai_price_list.refresh(loads_list=loads_list)
        self.own = [price.as_custom_price() for price in ModelPrice.objects.all()]
        self._read_at = time.monotonic()
        return True

    def priced(self, rows: Iterable[CallRecord]) -> list[CallRecord]:
        """Computes the costs of calls; returns their rows with the fields `cost`, `cost_kind` and `price` (the bill).

        `cost` has dollars as text; None if the cost is unknown. Models without a price are logged. A missing completion
        window, on which the price depends, is added to a row (`with_windows`).

        Raises:
            django.db.Error: the administrator's prices cannot be read.
        """
        self.refresh()
        return [self._priced(row) for row in with_windows(list(rows))]

    def _priced(self, row: CallRecord) -> CallRecord:
        cost, price = price_call(row, self.own or ())
        if cost is None and price is None:
            for model, tier in lacking_prices(row, self.own or ()):
                self._alert(model, tier)
        kind = cost_kind(row, price)
        return {**row, "cost": None if cost is None else str(cost), "cost_kind": kind, "price": price}

    def _alert(self, model: str, tier: str) -> None:
        """Logs a warning that a model has no price, once for each model, for at most `MOST_ALERTS` models.

        A model that has had calls without a price in the last 30 days was logged before, and is not logged again.
        """
        if model in self._alerted or len(self._alerted) >= MOST_ALERTS:
            return
        self._alerted.add(model)
        # Another process, or this worker before its restart, may have logged it. The check costs a query for each such
        # model, in the thread that writes rows.
        days = UsageTotal.objects.filter(
            span=Span.DAY, dimension=Dimension.MODEL, value=model, start__gte=datetime.now(UTC) - ALERTED
        )
        if not days.filter(unpriced_calls__gt=0).exists():
            text = "no price is known for model %r, service tier %r: its calls have no cost; add a custom price"
            logger.warning(text, model, tier)


def lacking_prices(row: CallRecord, custom_prices: Sequence[CustomPrice]) -> list[tuple[str, str]]:
    """Returns the models whose missing price is the reason why a call has no cost, as pairs of name and service tier.

    Usually this is the call's own model. If that has a price, they are the models that the call's hosted tools have
    run. Call this function only for a call without a cost.
    """
    own, tier, started_at = called_model(row), row.get("service_tier") or "default", row["started_at"]
    at = started_at if isinstance(started_at, datetime) else datetime.fromisoformat(started_at)
    used = row.get("other_usage") or {}
    of_tools = [str(written.get("model")) for written in used.get("svg", ())]
    if "image_tokens" in used and (name := used.get("image_model")):
        of_tools.append(name)
    if of_tools and rates_of_call(row, custom_prices) is not None:
        lacking = [name for name in of_tools if find_rates(name.lower(), "default", at, custom_prices) is None]
        if lacking:
            return [(name, "default") for name in dict.fromkeys(lacking)]
    return [(own, tier)]


def with_windows(rows: list[CallRecord]) -> list[CallRecord]:
    """Adds the completion window (such as `2h`) of earlier responses to rows of calls about them; returns all rows.

    The price depends on this window, which only the row of the call that created the response states. That row is
    looked up in `rows` and in the table of calls; if no window is found, the row to price stays as it is.
    """
    # The price depends on the window, which only the creating request names. Rows that lack it are rare.
    later = [row for row in rows if row.get("response_id") and row.get("usage") and _is_of_earlier_response(row)]
    if not later:
        return rows
    ids = {row["response_id"] for row in later}
    makers = Request.objects.filter(response_id__in=ids, other_usage__has_key="completion_window")
    windows = dict(makers.values_list("response_id", "other_usage__completion_window"))
    for row in rows:
        if (window := (row.get("other_usage") or {}).get("completion_window")) and row.get("response_id"):
            windows[row["response_id"]] = window
    found = {id(row): windows[row["response_id"]] for row in later if row["response_id"] in windows}
    return [
        {**row, "other_usage": {**(row.get("other_usage") or {}), "completion_window": found[id(row)]}}
        if id(row) in found
        else row
        for row in rows
    ]


def _is_of_earlier_response(row: CallRecord) -> bool:
    """Returns whether a call concerns a response (Responses API) that an earlier call has created.

    Such a call has the id of the response in its route, or is a poll: a request that the gateway makes itself to see
    whether a background response has ended.
    """
    route = str(row.get("route"))
    return route.startswith(("/openai2", "/v1/responses")) and ("{id}" in route or bool(row.get("by_gateway")))
