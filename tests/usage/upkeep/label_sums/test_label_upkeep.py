"""The sums by label: bounded names, and what is added, verified and rebuilt after that."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, call, call_id, ship
from tests.support.ledger.ledgers import end as ended
from usage.database.clock import database_now
from usage.models import LabelTotal, Request
from usage.sums.labels.label_tables import CLOSED, END_USER, OTHERS
from usage.upkeep.label_sums import folding, label_check
from usage.upkeep.label_sums.folding import Period, fold_labels
from usage.upkeep.label_sums.label_check import rebuild_labels
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.repricing import reprice
from usage.upkeep.sum_mending.group_differences import add_groups
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

AFTER = NOON + timedelta(days=40)  # the day and the month of `NOON` have ended


@pytest.fixture(autouse=True)
def _few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_VALUES", 2)
    monkeypatch.setattr(folding, "MOST_VALUES_AT_FIRST", 4)
    monkeypatch.setattr(folding, "MOST_TAG_NAMES", 2)
    monkeypatch.setattr(folding, "MOST_TAG_NAMES_AT_FIRST", 4)


def ship_users(directory: Path, *names: str, **columns: Any) -> None:
    """Ships a call of each end user; the first one's is the dearest."""
    ship(
        directory,
        *(
            ended(call(NOON, end_user=name, output_tokens=1000 * (len(names) - number), **columns))
            for number, name in enumerate(names)
        ),
    )


def users(span: str = "day") -> dict[str, int]:
    totals = LabelTotal.objects.filter(span=span, label=END_USER, calls__gt=0)
    return dict(totals.values_list("value", "calls"))


def faults(directory: Path) -> list[str]:
    return list(find_faults(directory))


def test_it_works(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c", "d", "e")
    assert fold_labels(AFTER) == 2  # of the day and of the month
    assert users("day") == users("month") == {"a": 1, "b": 1, OTHERS: 3}
    cost = sum(one.cost for one in LabelTotal.objects.filter(span="day", label=END_USER))
    assert cost == sum(row.cost or Decimal(0) for row in Request.objects.all())
    assert faults(tmp_path) == []


def test_while_a_day_goes_on_more_names_have_sums(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c", "d")
    assert fold_labels(NOON) == 0
    ship_users(tmp_path, "e")
    assert fold_labels(NOON) == 2
    assert users() == {"a": 1, "b": 1, "c": 1, "d": 1, OTHERS: 1}


def test_what_comes_later_is_counted_where_its_name_is(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c")
    fold_labels(AFTER)
    ship_users(tmp_path, "a", "c", "new")
    assert users() == {"a": 2, "b": 1, OTHERS: 3}
    assert faults(tmp_path) == []


def test_a_new_price_moves_folded_sums(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c")
    fold_labels(AFTER)
    Request.objects.filter(end_user="c").update(cost=Decimal("5"))  # as if it had been priced otherwise
    LabelTotal.objects.filter(label=END_USER, value=OTHERS).update(cost=Decimal("5"))
    reprice(NOON - timedelta(days=1), unpriced_only=False)
    totals = LabelTotal.objects.filter(span="day", label=END_USER, value=OTHERS)
    assert totals.get().cost == Request.objects.get(end_user="c").cost != Decimal("5")


def test_of_too_many_names_of_tags_the_cheapest_have_no_sums(tmp_path: Path) -> None:
    for name, tokens in (("a", 3), ("b", 2), ("c", 1)):
        ship(tmp_path, ended(call(NOON, tags=[f"{name}=1"], output_tokens=tokens)))
    fold_labels(AFTER)
    ship(tmp_path, ended(call(NOON, tags=["a=2", "b=1", "c=1", "d"])))
    labels = LabelTotal.objects.filter(span="day").exclude(label="")
    assert set(labels.values_list("label", flat=True)) == {"tag:a", "tag:b", CLOSED}
    assert faults(tmp_path) == []


def test_dear_calls_with_names_made_up_take_no_sums_away_while_a_day_goes_on(tmp_path: Path) -> None:
    ship(tmp_path, ended(call(NOON, tags=["project=x"], output_tokens=1)))
    ship(tmp_path, ended(call(NOON, tags=["a", "b", "c"], output_tokens=1000)))
    assert fold_labels(NOON) == 0
    ship(tmp_path, ended(call(NOON, tags=["project=x"], output_tokens=1)))
    assert LabelTotal.objects.get(span="day", label="tag:project").calls == 2
    ship(tmp_path, ended(call(NOON, tags=["d"], output_tokens=1000)))
    assert fold_labels(NOON) == 2  # the day and the month have too many even so
    assert not LabelTotal.objects.filter(label="tag:project").exists()


def test_end_users_are_named_as_long_as_rows_are_kept(tmp_path: Path, settings: Settings) -> None:
    settings.RETENTION_DAYS = 60
    ship_users(tmp_path, "a", "b")
    fold_labels(NOON + timedelta(days=50))
    assert users() == {"a": 1, "b": 1}
    fold_labels(NOON + timedelta(days=62))
    assert (users("day"), users("month")) == ({OTHERS: 2}, {"a": 1, "b": 1})  # the month ended less than 60 days ago
    fold_labels(NOON + timedelta(days=100))
    assert users("month") == {OTHERS: 2}


def test_a_wrong_sum_is_found_and_mended(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c", tags=["project=x"], team="red", owner="Ada")
    ship(tmp_path, ended(call(NOON + timedelta(days=2), end_user="a", tags=["project=x"])))  # another day of the month
    fold_labels(database_now())
    before = list(LabelTotal.objects.order_by("pk").values())
    LabelTotal.objects.filter(label=END_USER, value="a").update(cost=1)
    LabelTotal.objects.filter(label="tag:project").delete()
    assert [fault.partition(" for ")[0] for fault in faults(tmp_path)] == [
        "usage_labeltotal is not the sum of its rows"
    ] * 8
    rebuild_totals(database_now())
    assert list(LabelTotal.objects.order_by("pk").values()) == before
    assert faults(tmp_path) == []


def test_old_sums_that_were_rebuilt_are_folded_again(tmp_path: Path) -> None:
    ship_users(tmp_path, "a", "b", "c")
    LabelTotal.objects.all().delete()
    rebuild_labels(NOON + timedelta(days=200))
    assert users("day") == users("month") == {"a": 1, "b": 1, OTHERS: 1}
    assert faults(tmp_path) == []


def test_few_sums_are_in_memory_at_once_when_all_are_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship_users(tmp_path, "a", "b", "c", "d", tags=["project=x"])
    before = list(LabelTotal.objects.order_by("pk").values())
    LabelTotal.objects.all().delete()
    numbers: list[int] = []

    def add(statement: str, groups: Any) -> None:
        numbers.append(len(groups))
        add_groups(statement, groups)

    monkeypatch.setattr(label_check, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(label_check, "add_groups", add)
    assert rebuild_labels(NOON) == 2
    assert list(LabelTotal.objects.order_by("pk").values()) == before
    assert numbers == [2, 2, 2, 0] * 2


def test_a_call_whose_id_is_hours_from_its_start_is_rebuilt_with_its_day(tmp_path: Path) -> None:
    midnight = NOON.replace(hour=0)
    ids = [call_id(midnight - timedelta(hours=3)), call_id(NOON)]
    ship(tmp_path, *(ended(call(midnight, request_id=one, end_user="a")) for one in ids))
    before = list(LabelTotal.objects.order_by("pk").values())
    LabelTotal.objects.filter(label=END_USER).update(cost=1)
    rebuild_labels(AFTER)
    assert list(LabelTotal.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(
    ("period", "end"),
    [(Period("day", date(2026, 12, 31)), date(2027, 1, 1)), (Period("month", date(2026, 2, 1)), date(2026, 3, 1))],
)
def test_a_period_ends_where_the_next_begins(period: Period, end: date) -> None:
    assert period.end.date() == end
