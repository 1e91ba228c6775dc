"""Recomputes the cost of calls in the ledger, and corrects their sums in the same transaction."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from usage.call_record import CallRecord, SummedRow
from usage.ids import first_id
from usage.journal_shipping.response_billing import COUNTED_BEFORE, COUNTED_LATER
from usage.journal_shipping.rows import update_prices
from usage.journal_shipping.stub_rows import FIELDS
from usage.metric_counters import counters
from usage.models import CostKind, Request, UsageSource
from usage.money.row_pricing import Pricer
from usage.money.unbilled import COUNTED_AT_END, NOT_BILLED, UNBILLED_ROUTE
from usage.sums.totals_rollup import Rollup

BATCH_SIZE = 500


def reprice(since: datetime, *, unpriced_only: bool) -> int:
    """Recomputes the costs of calls from the time `since` on; returns how many calls got another cost or kind of cost.

    Corrects the calls' rows, the sums, and the metrics of this process. With `unpriced_only`, only calls without a cost
    are included. These calls are left out:

    * unfinished calls
    * calls whose usage is counted in another call's row
    * calls that upstream does not bill; but calls that are not billed because of their route are included
    """
    pricer = Pricer()
    last = first_id(since)
    changed = 0
    while True:
        calls = Request.objects.filter(request_id__gt=last).order_by("request_id")
        calls = calls.exclude(price=COUNTED_BEFORE).exclude(price=COUNTED_LATER).exclude(price=COUNTED_AT_END)
        # Why a call was not billed may be in its record alone, and not in its row; but its route is in the row.
        by_route = Q(price__source=NOT_BILLED, price__note=UNBILLED_ROUTE)
        calls = calls.filter(Q(price=None) | ~Q(price__source=NOT_BILLED) | by_route)
        if unpriced_only:
            calls = calls.filter(cost__isnull=True)
        with transaction.atomic():
            rows = list(calls.select_for_update()[:BATCH_SIZE].values(*FIELDS))
            if not rows:
                return changed
            last = rows[-1]["request_id"]
            before, after = _apply(rows, pricer)
        counters.count_repricing(before, after)
        changed += len(after)


def set_missing_kinds() -> int:
    """Marks costs as estimated if their token counts are estimated and an earlier release has not marked them.

    Returns how many rows have changed. Corrects the sums, too. Costs of $0 stay unmarked.
    """
    last, changed = str(UUID(int=0)), 0
    # Nothing says that the cost of other unmarked rows is uncertain.
    unmarked = Request.objects.filter(usage_source=UsageSource.ESTIMATED, cost_kind="", cost__gt=0)
    while True:
        with transaction.atomic():
            calls = unmarked.filter(request_id__gt=last).order_by("request_id")
            rows: list[CallRecord] = list(calls.select_for_update()[:BATCH_SIZE].values(*FIELDS))
            if not rows:
                return changed
            last = rows[-1]["request_id"]
            _write([{**row, "cost": str(row["cost"]), "cost_kind": CostKind.ESTIMATED} for row in rows])
        changed += len(rows)


def _apply(rows: list[CallRecord], pricer: Pricer) -> tuple[list[SummedRow], list[SummedRow]]:
    """Computes the costs of the given rows again; stores those that have changed, and corrects the sums.

    Returns two lists with the rows whose cost, or kind of cost, has changed: as they were before, and as they are now.
    """
    return _write([row for row, old in zip(pricer.priced(rows), rows, strict=True) if _is_changed(row, old)])


def _write(repriced: list[CallRecord]) -> tuple[list[SummedRow], list[SummedRow]]:
    """Stores the new cost, kind of cost and price of some rows in the table of calls, and corrects the sums.

    Returns two lists of these rows: as they were before, and as they are now.
    """
    before, after = update_prices(repriced)
    rollup = Rollup()
    rollup.add(before, sign=-1)
    rollup.add(after)
    with connection.cursor() as cursor:
        rollup.write(cursor)
    return before, after


def _is_changed(row: CallRecord, old: CallRecord) -> bool:
    """Returns whether the cost, or kind of cost, of a call differs between its recomputed and its old row."""
    return _cost(row) != _cost(old) or row["cost_kind"] != old["cost_kind"]


def _cost(row: CallRecord) -> Decimal | None:
    """Returns the cost in a call's row as decimal dollars; None if the row has no cost."""
    return None if row["cost"] is None else Decimal(row["cost"])
