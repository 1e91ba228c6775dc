"""The grand totals of each label are always the sums of its values, whatever writes, changes or empties these."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F, Sum

from tests.support.ledger.ledgers import NOON, call, random_call, ship
from tests.support.ledger.ledgers import end as ended
from usage.journal_shipping.rows import write_rows
from usage.models import LabelGrandTotal, LabelTotal
from usage.money.row_pricing import Pricer
from usage.sums.labels.label_tables import END_USER, SUMS
from usage.upkeep.label_sums import folding
from usage.upkeep.label_sums.folding import fold_labels
from usage.upkeep.label_sums.grand_totals import wrong_grand_totals
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db


def added_up() -> list[dict[str, Any]]:
    sums = {f"sum_{name}": Sum(name) for name in SUMS}
    groups: Iterable[Any] = (
        LabelTotal.objects.values("span", "label", "start").annotate(**sums).order_by("span", "label", "start")
    )
    named = [{name.removeprefix("sum_"): value for name, value in group.items()} for group in groups]
    return [group for group in named if any(group[name] for name in SUMS)]


def stored() -> list[dict[str, Any]]:
    totals = LabelGrandTotal.objects.order_by("span", "label", "start").values("span", "label", "start", *SUMS)
    return [total for total in totals if any(total[name] for name in SUMS)]


def write_random(count: int) -> None:
    chance = random.Random(5)
    rows = [random_call(chance, NOON + timedelta(hours=chance.randrange(24 * 50))) for _ in range(count)]
    write_rows(Pricer().priced(rows))


def test_all_that_changes_the_values_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    write_random(120)
    first = stored()
    assert first == added_up()
    assert {total["label"] for total in first} >= {"", END_USER, "tag:project"}
    write_random(40)
    assert stored() == added_up() != first
    LabelTotal.objects.filter(span="day", label=END_USER).update(calls=F("calls") + 3, cost=Decimal(1))
    assert stored() == added_up()
    LabelTotal.objects.filter(key_name="default", span="month").delete()
    assert stored() == added_up()
    monkeypatch.setattr(folding, "MOST_VALUES", 1)
    monkeypatch.setattr(folding, "MOST_TAG_NAMES", 1)
    assert fold_labels(NOON + timedelta(days=100))
    assert stored() == added_up()
    labels = [set(model.objects.values_list("span", "label", "start")) for model in (LabelTotal, LabelGrandTotal)]
    assert labels[0] == labels[1]
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_labeltotal")
    assert stored() == added_up() == []


@pytest.mark.parametrize("damage", ["wrong", "missing", "stray"])
def test_damage_is_found_and_mended(tmp_path: Path, damage: str) -> None:
    ship(tmp_path, *(ended(call(NOON, end_user=user, tags=["project=x"])) for user in ("a", "b")))
    right = stored()
    months = LabelGrandTotal.objects.filter(span="month", label=END_USER)
    if damage == "wrong":
        months.update(cost=Decimal(7), calls=1)
    elif damage == "missing":
        months.delete()
    else:
        total = months.values().get()
        LabelGrandTotal.objects.create(**{**total, "label": "tag:nobody"})
    assert [fault.partition(" is ")[0] for fault in find_faults(tmp_path)] == ["usage_labelgrandtotal"]
    rebuild_totals(NOON + timedelta(days=1))
    assert list(find_faults(tmp_path)) == []
    assert stored() == right


def test_only_days_since_a_time_are_compared(tmp_path: Path) -> None:
    ship(tmp_path, ended(call(NOON, end_user="a")))
    LabelGrandTotal.objects.filter(span="day").update(calls=9)
    assert len(list(wrong_grand_totals(NOON - timedelta(days=1)))) == 2
    assert list(wrong_grand_totals(NOON)) == []
