"""Months of calls that are past their time go as a whole; bodies go by the day, whatever month they are in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import call, end, ship
from tests.support.ledger.months import months, names
from usage.database import partitions as partitions_module
from usage.database import time_limits
from usage.database.partitions import is_locked
from usage.ids import first_id
from usage.models import CountedResponse, LabelTotal, LedgerState, Request, RequestBody, UsageDay
from usage.sums.labels.label_tables import OTHERS
from usage.sums.pruned_calls import pruned_ids_end
from usage.sums.totals_reader import next_month
from usage.upkeep.label_sums import folding
from usage.upkeep.months import BODIES, CALLS, month_of
from usage.upkeep.retention import DAY, Pruned, prune, prune_if_due
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)
MONTHS = [month_of(NOW)]  # the newest first
for _ in range(5):
    MONTHS.append(month_of(MONTHS[-1] - DAY))
# The day before it, two whole months are past; the third is in its middle.
RETENTION_DAYS = (NOW - MONTHS[3]).days - 10


@pytest.fixture(autouse=True)
def _settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = RETENTION_DAYS, 0
    monkeypatch.setattr(partitions_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 50)
    with months(*MONTHS, next_month(NOW)):
        yield


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Four calls of each month, with bodies; the newest month's first."""
    rows = [
        call(month + timedelta(hours=hours), request_body="asked", response_id=f"resp_{month:%m}_{hours}")
        for month in MONTHS
        for hours in (0, 5, 300, 600)
        if month + timedelta(hours=hours) < NOW
    ]
    ship(tmp_path, *map(end, rows))
    return rows


def faults() -> list[str]:
    return list(find_faults(Path("/nonexistent")))


def before(month: datetime) -> int:
    return Request.objects.filter(pk__lt=first_id(next_month(month))).count()


def test_a_month_goes_when_all_of_it_is_past(rows: list[dict[str, Any]]) -> None:
    sums = list(UsageDay.objects.order_by("day").values())
    assert prune(NOW) == Pruned(4, 4, True)
    assert f"{CALLS}_{MONTHS[5]:%Y_%m}" not in names(CALLS)
    assert f"{BODIES}_{MONTHS[5]:%Y_%m}" not in names(BODIES)
    assert faults() == []
    assert pruned_ids_end() == first_id(MONTHS[4])
    assert prune(NOW) == Pruned(4, 4, False)
    assert LedgerState.load().pruned_before == MONTHS[3] + DAY
    assert before(MONTHS[3]) == 4  # partly past
    assert prune(NOW) == Pruned(0, 0, False)
    assert list(UsageDay.objects.order_by("day").values()) == sums
    assert faults() == []


@pytest.mark.usefixtures("rows")
def test_many_rows_of_a_month_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions_module, "MOST_COUNTED", 2)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_request, usage_requestbody")
    pruned = prune(NOW)
    assert pruned == Pruned(4, 4, True, are_estimates=True)
    assert pruned.text == "about 4 rows and 4 bodies"


def test_with_yes_all_months_go_at_once(rows: list[dict[str, Any]]) -> None:
    assert prune(NOW, all_at_once=True) == Pruned(8, 8, False)
    assert before(MONTHS[3]) == 4
    assert faults() == []


def test_a_month_is_not_past_before_its_last_moment_is(rows: list[dict[str, Any]]) -> None:
    past = MONTHS[4] + timedelta(days=RETENTION_DAYS)
    assert prune(past - timedelta(seconds=1)).rows == 0
    assert prune(past).rows == 4


def test_what_belongs_to_its_calls_goes_with_them(rows: list[dict[str, Any]]) -> None:
    CountedResponse.objects.all().delete()
    for row in rows:
        CountedResponse.objects.create(response_id=row["response_id"], request_id=row["request_id"])
    prune(NOW)
    gone = {row["request_id"] for row in rows[-4:]}
    assert {str(one.request_id) for one in CountedResponse.objects.all()} == {row["request_id"] for row in rows} - gone


def test_bodies_go_by_the_day_and_their_months_when_they_are_empty(
    rows: list[dict[str, Any]], settings: Settings
) -> None:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 0, (NOW - MONTHS[1]).days - 5
    for _ in range(60):
        prune(NOW)
    assert Request.objects.count() == len(rows)
    kept = {row["request_id"] for row in rows if row["started_at"] >= MONTHS[1] + timedelta(days=6)}
    assert {str(body.pk) for body in RequestBody.objects.all()} == kept
    assert names(BODIES) == {f"{BODIES}_{month:%Y_%m}" for month in (*MONTHS[:2], next_month(NOW))}
    assert len(names(CALLS)) == 7


def test_a_day_of_wrong_clocks_costs_a_month_at_most(rows: list[dict[str, Any]]) -> None:
    prune(NOW)
    assert prune(NOW + timedelta(days=500)).rows == 4
    assert before(NOW) == len(rows) - 8


def test_sums_that_are_in_use_are_folded_later_and_hold_up_neither_pruning_nor_writers(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MOST_VALUES", 1)
    first = MONTHS[2] + timedelta(hours=5)  # kept, and its day is over
    ship(tmp_path, *(end(call(first, end_user=name)) for name in ("a", "b")))
    folded = LabelTotal.objects.filter(value=OTHERS)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as writer:
        writer.execute("LOCK TABLE usage_usagehour IN ROW EXCLUSIVE MODE")
        assert prune(NOW).rows == 4
        assert not folded.exists()
    assert prune_if_due() is True
    assert folded.exists()
    assert faults() == []


def test_beside_a_dump_nothing_hangs_and_nothing_is_forgotten(rows: list[dict[str, Any]]) -> None:
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as dump:
        dump.execute("LOCK TABLE usage_request IN ACCESS SHARE MODE")
        with pytest.raises(OperationalError) as raised:
            prune_if_due()
        assert is_locked(raised.value)
        with pytest.raises(CommandError, match="a dump"):
            call_command("ledger", "prune")
        assert Request.objects.count() == len(rows)
        assert LedgerState.load().pruned_before is None
    assert prune_if_due() is True
    assert Request.objects.count() == len(rows) - 4
    assert faults() == []
