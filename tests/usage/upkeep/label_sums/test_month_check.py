"""The sums by label of months are compared with their days, so also those of the first month whose rows are kept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.ledger.ledgers import NOON, call, ship
from tests.support.ledger.ledgers import end as ended
from usage.models import LabelTotal, LedgerState
from usage.sums.labels.label_tables import END_USER, OTHERS
from usage.upkeep.label_sums import folding
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.sum_mending import group_differences
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

AFTER = NOON + timedelta(days=40)  # the days and the month of `NOON` have ended
MONTHS = LabelTotal.objects.filter(span="month")


@pytest.fixture(autouse=True)
def _first_kept_month(tmp_path: Path) -> None:
    """The month's rows are there, but those before its second day may have been pruned."""
    for days in (0, 1, 5):
        users = ("a", "b", "a")
        ship(tmp_path, *(ended(call(NOON + timedelta(days=days), end_user=user, tags=["project=x"])) for user in users))
    LedgerState.load()
    LedgerState.objects.update(pruned_before=NOON.replace(hour=0) + timedelta(days=1))


def faults(directory: Path) -> list[str]:
    return list(find_faults(directory))


def test_it_is_whole(tmp_path: Path) -> None:
    assert faults(tmp_path) == []
    folding.fold_labels(AFTER)
    assert faults(tmp_path) == []


@pytest.mark.parametrize("label", ["", END_USER, "tag:project"])
def test_a_wrong_sum_is_found_and_mended(tmp_path: Path, label: str) -> None:
    wrong = MONTHS.filter(label=label)
    right = [(row.calls, row.cost) for row in wrong]
    wrong.update(calls=7)
    assert [fault.partition(" has ")[0] for fault in faults(tmp_path)] == ["usage_labeltotal"]
    rebuild_totals(AFTER)
    assert faults(tmp_path) == []
    calls = sum(row.calls for row in wrong.all())
    assert (calls, sum(row.cost for row in wrong.all())) == (9, sum(cost for _, cost in right))


def test_missing_sums_are_made_from_those_of_days_by_name(tmp_path: Path) -> None:
    right = list(MONTHS.order_by("pk").values())
    MONTHS.delete()
    assert len(faults(tmp_path)) == 3  # of a label each
    rebuild_totals(AFTER)
    assert list(MONTHS.order_by("pk").values()) == right
    assert faults(tmp_path) == []


def test_where_all_values_have_names_their_own_sums_are_mended() -> None:
    right = list(MONTHS.order_by("pk").values())
    MONTHS.update(calls=7)
    rebuild_totals(AFTER)
    assert list(MONTHS.order_by("pk").values()) == right


def users_of_month() -> dict[str, int]:
    return dict(MONTHS.filter(label=END_USER).values_list("value", "calls"))


@pytest.fixture
def _folded_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days name one end user each; the month goes on, and names both."""
    monkeypatch.setattr(folding, "MOST_VALUES", 1)
    assert folding.fold_labels(NOON + timedelta(days=10)) == 3
    assert users_of_month() == {"a": 6, "b": 3}


@pytest.mark.usefixtures("_folded_days")
def test_calls_of_values_without_names_are_added_to_the_common_row() -> None:
    MONTHS.filter(label=END_USER, value="a").update(calls=5)
    rebuild_totals(NOON + timedelta(days=10))
    assert users_of_month() == {"a": 5, "b": 3, OTHERS: 1}


@pytest.mark.usefixtures("_folded_days")
def test_the_common_row_takes_no_names_from_later_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_differences, "MOST_GROUPS", 1)
    MONTHS.filter(label=END_USER).delete()
    rebuild_totals(NOON + timedelta(days=10))
    assert users_of_month() == {"a": 6, OTHERS: 3}
