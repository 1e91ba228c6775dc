"""`ledger sum` mends every sum that is not the sum of its rows, and marks the estimates that have no mark."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import F

from tests.support.ledger.ledgers import NOON, assert_sums_are_right, call, random_call, stored_sums
from usage.journal_shipping.rows import write_rows
from usage.models import LedgerState, Request, SummedName, TeamDay, UsageBreakdown, UsageDay, UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.sums.sum_tables import DAY_SUMS, HISTOGRAMS, HOUR_SUMS, PACKED
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db
NOW = NOON + timedelta(days=3)
CHANGES: list[tuple[Any, dict[str, Any]]] = [
    *((UsageHour, {name: F(name) + 1}) for name in ("calls", "unpriced_calls", *HOUR_SUMS)),
    *((UsageDay, {name: F(name) + 1}) for name in ("calls", "unpriced_calls", *DAY_SUMS)),
    *((TeamDay, {name: F(name) + 1}) for name in ("calls", "unpriced_calls", *DAY_SUMS)),
    *((UsageHour, {f"{name}_histogram": [5, 5]}) for name in HISTOGRAMS),
    *((UsageHour, {column: [3, 5]}) for column in PACKED.values()),
    (UsageTotal, {"cost": F("cost") + 1}),
    (UsageBreakdown, {"cost": F("cost") + 1}),
    (UsageBreakdown, {"calls": 0, "durations": [3, 5]}),
    (UsageTotal, {"durations": [3, 5]}),
    (UsageHour, {"model": "another"}),
]


def fill(seed: int, number: int = 60) -> None:
    chance = random.Random(seed)
    rows = [random_call(chance, NOON + timedelta(minutes=chance.randrange(60 * 48))) for _ in range(number)]
    for row in rows:
        row["usage_source"] = chance.choice(["exact", "estimated"])
        row["team"] = chance.choice(["", "a team", "another"])
    write_rows(Pricer().priced(rows))


def some(model: Any) -> Any:
    """A third of the rows of a table of sums."""
    keys = list(model.objects.order_by("pk").values_list("pk", flat=True))
    return model.objects.filter(pk__in=keys[::3])


@pytest.mark.parametrize(("model", "change"), CHANGES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_wrong_sum_is_mended(model: Any, change: dict[str, Any]) -> None:
    fill(1)
    right = stored_sums()
    some(model).update(**change)
    assert list(find_faults(Path("/nonexistent"))) != []

    assert bool(rebuild_totals(NOW)) == (model is UsageHour)
    assert stored_sums() == right
    assert_sums_are_right()


@pytest.mark.parametrize("model", [UsageHour, UsageDay, TeamDay, UsageTotal, UsageBreakdown, SummedName])
def test_a_missing_sum_is_mended(model: Any) -> None:
    fill(2)
    right = stored_sums()
    some(model).delete()
    rebuild_totals(NOW)
    assert stored_sums() == right
    assert_sums_are_right()


def test_what_older_code_wrote_without_its_estimated_part_is_mended() -> None:
    """Code that knew the kinds of rows, but not the parts of sums."""
    fill(3)
    for model in (UsageHour, UsageDay, UsageTotal):
        model.objects.update(estimated_cost=0, provisional_cost=0)
    rebuild_totals(NOW)
    assert sum(day.estimated_cost for day in UsageDay.objects.all()) > 0
    assert_sums_are_right()


def test_estimates_without_a_mark_are_marked() -> None:
    """Code that knew neither."""
    rows = [call(usage_source=source, cost="0.25", cost_kind="", price={}) for source in ("exact", "estimated")]
    write_rows([*rows, call(usage_source="estimated", cost=None, cost_kind="", price=None)])
    out = StringIO()
    call_command("ledger", "sum", stdout=out)

    assert "1 estimated cost was not marked" in out.getvalue()
    assert {(row.cost, row.cost_kind) for row in Request.objects.all()} == {
        (Decimal("0.25"), ""), (Decimal("0.25"), "estimated"), (None, "")
    }  # fmt: skip
    assert UsageDay.objects.get().estimated_cost == UsageHour.objects.get().estimated_cost == Decimal("0.25")
    assert_sums_are_right()
    call_command("ledger", "sum", stdout=out)
    assert out.getvalue().endswith("added up; 0 hours were wrong, 0 estimated costs were not marked\n")


def test_sums_of_pruned_calls_stay() -> None:
    """Also those of the day in the middle of which the rows begin, whose later hours are mended."""
    moments = [NOON - timedelta(hours=2), NOON + timedelta(hours=2)]
    write_rows([call(moment, cost="1.5", cost_kind="exact", price={}) for moment in moments])
    right = stored_sums()
    Request.objects.filter(started_at__lt=NOON).delete()
    state = LedgerState.load()
    state.pruned_before = NOON
    state.save(update_fields=["pruned_before"])
    UsageHour.objects.filter(hour__gte=NOON).update(cost=7)
    UsageDay.objects.update(cost=9)

    assert rebuild_totals(NOW) == 1
    assert stored_sums() == right
