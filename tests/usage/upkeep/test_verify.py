"""`ledger verify`: silent on a whole ledger, and it notices whatever is changed in it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from tests.support.ledger.ledgers import NOON, begin, call, end, leave, random_call, ship
from usage.journal.records import frame
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.digests import VERSIONS, DigestVersion, digest_sql, is_unchanged_sql
from usage.journal_shipping.rows import COLUMNS
from usage.journal_shipping.shipper import adopt_dead
from usage.models import ErrorTotal, Request, SummedName, UsageBreakdown, UsageDay, UsageHour, UsageTotal
from usage.sums.sum_tables import BREAKDOWN_SUMS, DAY_SUMS, HOUR_SUMS, TOTAL_SUMS
from usage.upkeep import verify
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

OTHER: dict[str, Any] = {
    "BooleanField": True,
    "UUIDField": "01997000-0000-7000-8000-000000000000",
    "DateTimeField": NOON + timedelta(microseconds=1),
    "GenericIPAddressField": "192.0.2.1",
    "JSONField": {"other": 1},
    "ArrayField": ["other"],
    "CharField": "other",
    "TextField": "other",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "SHIPPING_SECONDS", 0.0)


@pytest.fixture
def row(tmp_path: Path) -> str:
    """The id of one row among others, in a ledger that is whole."""
    row = call(error_message="")
    ship(tmp_path, end(row), end(call()), end(call(NOON + timedelta(days=1))))
    assert faults(tmp_path) == []
    return str(row["request_id"])


def faults(directory: Path) -> list[str]:
    return list(find_faults(directory))


def test_it_works(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = [random_call(chance, NOON + timedelta(minutes=chance.randrange(5000))) for _ in range(1500)]
    records = [record for row in rows for record in (begin(row), end(row))]
    poison = call(input_tokens=-1)
    ship(tmp_path, *records, begin(call()), end(poison), *records[:100])
    ship(tmp_path, begin(late := call()))
    ship(tmp_path, end(late))
    assert Request.objects.count() == 1503
    assert faults(tmp_path) == []


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "request_id"])
def test_a_changed_row_is_noticed(tmp_path: Path, row: str, column: str) -> None:
    kind = Request._meta.get_field(column).get_internal_type()
    Request.objects.filter(pk=row).update(**{column: OTHER.get(kind, 7)})
    assert f"row {row} was changed after it was written" in faults(tmp_path)


@pytest.mark.parametrize("column", ["cost", "usage", "status", "input_tokens"])
def test_a_value_that_is_gone_is_noticed(tmp_path: Path, row: str, column: str) -> None:
    Request.objects.filter(pk=row).update(**{column: None})
    assert f"row {row} was changed after it was written" in faults(tmp_path)


def test_a_changed_id_is_noticed(tmp_path: Path, row: str) -> None:
    Request.objects.filter(pk=row).update(request_id=OTHER["UUIDField"])
    assert f"row {OTHER['UUIDField']} was changed after it was written" in faults(tmp_path)


def test_a_deleted_row_is_noticed(tmp_path: Path, row: str) -> None:
    Request.objects.filter(pk=row).delete()
    found = faults(tmp_path)
    hour = "2026-11-01 12:00:00+00 / default / gpt-4o-mini-2024-07-18 / /openai / success"
    assert f"usage_usagehour is not the sum of its rows for {hour}" in found
    assert "usage_usageday is not the sum of its rows for 2026-11-01 / default" in found
    assert f"usage_usagehour's histogram of duration_ms is off for {hour}" in found


def test_a_deleted_last_row_of_an_hour_is_noticed(tmp_path: Path) -> None:
    ship(tmp_path, end(row := call()))
    Request.objects.filter(pk=row["request_id"]).delete()
    assert len(faults(tmp_path)) == 7  # hour, day, three histograms, day and month of labels


def test_an_inserted_row_is_noticed(tmp_path: Path, row: str) -> None:
    inserted = Request.objects.get(pk=row)
    inserted.pk = OTHER["UUIDField"]
    inserted.save(force_insert=True)
    found = faults(tmp_path)
    assert f"row {inserted.pk} was changed after it was written" in found
    assert "usage_usageday is not the sum of its rows for 2026-11-01 / default" in found


@pytest.mark.parametrize("column", ["calls", "unpriced_calls", *HOUR_SUMS])
def test_a_changed_hour_is_noticed(tmp_path: Path, row: str, column: str) -> None:
    UsageHour.objects.filter(hour=NOON).update(**{column: F(column) + 1})
    first, *others = (fault.partition(" for ")[0] for fault in faults(tmp_path))
    assert first == "usage_usagehour is not the sum of its rows"
    assert set(others) <= {f"usage_{table} is not the sum of its calls" for table in ("usagetotal", "usagebreakdown")}


@pytest.mark.parametrize("span", ["day", "month"])
@pytest.mark.parametrize("dimension", ["all", "key"])
@pytest.mark.parametrize("column", ["calls", "unpriced_calls", *BREAKDOWN_SUMS])
def test_a_changed_breakdown_is_noticed(tmp_path: Path, row: str, span: str, dimension: str, column: str) -> None:
    UsageBreakdown.objects.filter(span=span, dimension=dimension, start__lt=NOON).update(**{column: F(column) + 1})
    [fault] = [fault for fault in faults(tmp_path) if "histogram" not in fault]
    assert fault.startswith(f"usage_usagebreakdown is not the sum of its calls for {span} / {dimension} / 2026-11-01 ")


@pytest.mark.parametrize("span", ["minute", "hour", "day", "month"])
@pytest.mark.parametrize("column", ["calls", "errors", "unpriced_calls", *TOTAL_SUMS])
def test_a_changed_total_is_noticed(tmp_path: Path, span: str, column: str) -> None:
    ship(tmp_path, end(call(datetime.now(UTC) - timedelta(minutes=5))))
    assert faults(tmp_path) == []
    UsageTotal.objects.filter(span=span, dimension="key").update(**{column: F(column) + 1})
    [fault] = faults(tmp_path)
    assert fault.startswith(f"usage_usagetotal is not the sum of its calls for {span} / key / ")


def test_a_missing_name_is_noticed(tmp_path: Path, row: str) -> None:
    SummedName.objects.filter(dimension="key").delete()
    assert faults(tmp_path) == ["usage_summedname lacks key / default"]


@pytest.mark.parametrize("change", [{"calls": 2}, {"error_code": "another"}])
def test_a_changed_count_of_failures_is_noticed(tmp_path: Path, change: dict[str, Any]) -> None:
    ship(tmp_path, end(call(outcome="timeout", status=504, error_code="slow")))
    assert faults(tmp_path) == []
    ErrorTotal.objects.update(**change)
    group = "hour / 2026-11-01 12:00:00+00 / timeout / 504 / slow / gpt-4o-mini-2024-07-18 / /openai / default"
    assert f"usage_errortotal does not count its rows for {group}" in faults(tmp_path)


@pytest.mark.parametrize("column", ["calls", "unpriced_calls", *DAY_SUMS])
def test_a_changed_day_is_noticed(tmp_path: Path, row: str, column: str) -> None:
    UsageDay.objects.filter(day=NOON.date()).update(**{column: F(column) + 1})
    assert faults(tmp_path) == ["usage_usageday is not the sum of its rows for 2026-11-01 / default"]


def test_one_token_of_a_billion_is_noticed(tmp_path: Path) -> None:
    ship(tmp_path, end(call(input_tokens=10**9)))
    assert faults(tmp_path) == []
    UsageDay.objects.update(input_tokens=F("input_tokens") + 1)
    assert len(faults(tmp_path)) == 1


def test_a_deleted_hour_and_an_invented_one_are_noticed(tmp_path: Path, row: str) -> None:
    UsageHour.objects.filter(hour=NOON).update(hour=NOON - timedelta(hours=1))
    found = faults(tmp_path)
    assert any("2026-11-01 12:00:00" in fault for fault in found)
    assert any("2026-11-01 11:00:00" in fault for fault in found)


def test_a_record_that_does_not_get_into_the_table_is_noticed(tmp_path: Path, row: str) -> None:
    missing, there = call(), row
    path = leave(tmp_path, end(missing), begin(call()), end({**call(), "request_id": there}))
    assert faults(tmp_path) == [f"call {missing['request_id']} is in the journal and not in the table"]
    adopt_dead(tmp_path, Delivery(tmp_path))
    assert not path.exists()
    assert Request.objects.filter(pk=missing["request_id"]).exists()


def test_a_damaged_record_is_noticed(tmp_path: Path, row: str) -> None:
    path = leave(tmp_path, frame(begin(call())).replace(b"POST", b"GOST"))
    assert faults(tmp_path) == [f"{path.name} has a damaged record"]


@pytest.mark.parametrize(
    ("record", "others"),
    [
        (lambda: frame(begin(call())).replace(b"POST", b"GOST"), "3 more damaged records are in the journal"),
        (lambda: end(call()), "3 more calls are in the journal and not in the table"),
    ],
)
def test_of_many_faults_of_a_kind_the_first_are_named(tmp_path: Path, row: str, record: Any, others: str) -> None:
    leave(tmp_path, *[record() for _ in range(verify.MOST_FAULTS + 3)])
    found = faults(tmp_path)
    assert len(found) == verify.MOST_FAULTS + 1
    assert found[-1] == others


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_only_the_days_that_are_wanted_are_checked(tmp_path: Path, days: int) -> None:
    """Whatever is wrong: a row, the sums of an hour, of a day and of failures, the totals and the histograms."""
    ship(tmp_path, end(row := call(outcome="timeout", status=504)), end(call(NOON + timedelta(days=5))))
    Request.objects.filter(pk=row["request_id"]).update(input_tokens=5, outcome="success")
    UsageTotal.objects.filter(start__lt=NOON + timedelta(days=1)).update(overhead_ms_histogram=[5])
    since = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=days)
    found = list(find_faults(tmp_path, since))
    assert found == ([] if days > 0 else faults(tmp_path))
    assert len({fault.partition(" for ")[0] for fault in faults(tmp_path)}) >= 5


def test_each_check_is_announced(tmp_path: Path) -> None:
    said: list[str] = []
    list(find_faults(tmp_path, progress=said.append))
    assert said[0] == f"rows (1 of {len(said)})"
    assert said[-1] == f"journal ({len(said)} of {len(said)})"


def test_every_column_is_in_the_digest_of_the_newest_version() -> None:
    """A new column needs a new version in `usage.journal_shipping.digests`: rows of before have no digest of it."""
    newest = VERSIONS[-1]
    assert sorted((*newest.columns, *newest.marks)) == sorted(COLUMNS)


def test_a_new_column_leaves_the_digests_of_older_rows_right(
    tmp_path: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of rows that older code still writes; rows of the new version are verified with the new column."""
    later = DigestVersion((*VERSIONS[-1].columns, "region"), VERSIONS[-1].marks)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_request ADD COLUMN region text DEFAULT 'eu'")
    monkeypatch.setattr(verify, "IS_UNCHANGED", is_unchanged_sql((*VERSIONS, later)))
    ship(tmp_path, end(newer := call()), end(call()))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE usage_request SET digest = {digest_sql(later)} WHERE request_id = %s",  # noqa: S608  (our own names)
            [newer["request_id"]],
        )
    assert faults(tmp_path) == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_request SET region = 'us' WHERE request_id = %s", [newer["request_id"]])
        cursor.execute("UPDATE usage_request SET method = 'PUT' WHERE request_id = %s", [row])
    assert sorted(faults(tmp_path)) == sorted(
        f"row {one} was changed after it was written" for one in (row, newer["request_id"])
    )
