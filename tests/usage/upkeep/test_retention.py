"""Forgetting: what is past its time goes, in small batches, once a day; sums stay and the ledger stays provable.

All rows are in the default partition here; `test_pruned_months` is about the months.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError, ProgrammingError, connection, connections
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import call, end, ship, stored_sums
from tests.support.ledger.months import months
from tests.support.polling import PATIENCE
from usage.ids import first_id
from usage.models import LabelPeriod, LedgerState, Request, RequestBody
from usage.upkeep import retention
from usage.upkeep.label_sums.combining import combine_labels
from usage.upkeep.retention import DailyPruning, Pruned, prune, prune_if_due
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _small(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 10, 3
    monkeypatch.setattr(retention, "BATCH_SIZE", 4)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(retention, "PRUNED_AT_ONCE", timedelta(days=100))
    with months():
        yield


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """One call at noon of each of the last fifteen days and a bit, with a body; the newest first."""
    rows = [call(NOW - timedelta(days=days, minutes=1), request_body="asked") for days in range(15)]
    ship(tmp_path, *map(end, rows))
    return rows


def test_sums_by_all_labels_go_with_the_rows(rows: list[dict[str, Any]], settings: Settings) -> None:
    """At once, since they name end users."""
    settings.RETENTION_DAYS = 0
    combine_labels(now=NOW)
    first = (NOW - timedelta(days=10)).date()
    assert LabelPeriod.objects.filter(first__lt=first).exists()
    settings.RETENTION_DAYS = 10
    prune(NOW)
    assert min(LabelPeriod.objects.values_list("first", flat=True)) == first


def test_it_works(rows: list[dict[str, Any]]) -> None:
    sums = stored_sums()
    assert prune(NOW) == Pruned(5, 12, False)
    kept = {row["request_id"] for row in rows[:10]}
    assert {str(request.pk) for request in Request.objects.all()} == kept
    assert {str(body.pk) for body in RequestBody.objects.all()} == {row["request_id"] for row in rows[:3]}
    assert stored_sums() == sums
    assert list(find_faults(Path("/nonexistent"))) == []
    assert prune(NOW) == Pruned(0, 0, False)


def test_expired_sessions_are_deleted() -> None:
    Session.objects.create(session_key="old", session_data="", expire_date=NOW - timedelta(seconds=1))
    Session.objects.create(session_key="new", session_data="", expire_date=NOW + timedelta(hours=1))
    prune(NOW)
    assert [session.session_key for session in Session.objects.all()] == ["new"]


def test_zero_keeps_everything_for_ever(rows: list[dict[str, Any]], settings: Settings) -> None:
    settings.RETENTION_DAYS = settings.BODY_RETENTION_DAYS = 0
    assert prune(NOW) == Pruned(0, 0, False)
    assert RequestBody.objects.count() == 15
    settings.RETENTION_DAYS = 10
    assert prune(NOW) == Pruned(5, 5, False)  # a row takes its body with it


def test_after_pruning_a_change_is_still_noticed(rows: list[dict[str, Any]]) -> None:
    prune(NOW)
    Request.objects.filter(pk=rows[0]["request_id"]).delete()
    assert list(find_faults(Path("/nonexistent")))


def test_pruning_often_does_not_hide_more_and_more_from_the_proof(rows: list[dict[str, Any]]) -> None:
    for _ in range(30):
        prune(NOW)
    assert LedgerState.load().pruned_before == NOW - timedelta(days=9)
    Request.objects.filter(pk=rows[5]["request_id"]).delete()
    assert list(find_faults(Path("/nonexistent")))


def test_a_longer_retention_afterwards_does_not_ask_for_rows_that_are_gone(
    rows: list[dict[str, Any]], settings: Settings
) -> None:
    prune(NOW)
    settings.RETENTION_DAYS = 100
    prune(NOW)
    assert list(find_faults(Path("/nonexistent"))) == []


def test_rows_go_in_batches_each_in_its_own_transaction(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, gateway_database: str
) -> None:
    seen: list[int] = []

    class Pausing(threading.Event):
        """Its wait is the pause between two batches: others see what is gone by then."""

        def wait(self, timeout: float | None = None) -> bool:
            with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
                found = other.execute("SELECT count(*) FROM usage_requestbody").fetchone()
            assert found
            seen.append(found[0])
            return False

    prune(NOW, Pausing())
    assert seen == [11, 7, 3, 3]  # four at a time; then four of the five rows


def test_pruning_stops_when_it_is_told_to(rows: list[dict[str, Any]]) -> None:
    stopping = threading.Event()
    stopping.set()
    assert prune_if_due(stopping) is False
    assert 0 < RequestBody.objects.count() < 15  # one batch
    assert LedgerState.load().pruned_at is None  # so that the rest goes the next time
    assert prune_if_due() is True
    assert RequestBody.objects.count() == 3


def test_it_is_done_once_a_day(rows: list[dict[str, Any]]) -> None:
    assert prune_if_due() is True
    assert prune_if_due() is False
    LedgerState.objects.update(pruned_at=NOW - timedelta(hours=25))
    assert prune_if_due() is True


HOLDER = """
import sys, psycopg
from usage.upkeep.retention import LOCK
with psycopg.connect(sys.argv[1], autocommit=True) as holder:
    assert holder.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone()[0]
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_that_prunes_is_left_to_it(rows: list[dict[str, Any]]) -> None:
    database = connection.settings_dict
    url = psycopg.conninfo.make_conninfo(host=database["HOST"], user=database["USER"], dbname=database["NAME"])
    command = [sys.executable, "-c", f"import django, os\ndjango.setup()\n{HOLDER}", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert prune_if_due() is False
        assert Request.objects.count() == 15
        holder.communicate()
    assert prune_if_due() is True


def test_many_at_once_prune_once(rows: list[dict[str, Any]]) -> None:
    start = threading.Barrier(4)

    def due(_: int) -> bool:
        start.wait()
        try:
            return prune_if_due()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(due, range(4))) == [False, False, False, True]


def test_the_lock_is_given_back_when_pruning_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(retention, "prune", fail)
        with pytest.raises(RuntimeError):
            prune_if_due()
    with connection.cursor() as cursor:
        cursor.execute(  # not the locks of servers that other tests share
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert cursor.fetchone() == (0,)
    assert prune_if_due() is True


@pytest.fixture
def daily() -> Iterator[DailyPruning]:
    pruning = DailyPruning()
    yield pruning
    pruning.stop()


def test_its_thread_prunes_and_survives_a_database_that_fails(
    rows: list[dict[str, Any]], daily: DailyPruning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DailyPruning, "first_seconds", 0.001)
    monkeypatch.setattr(DailyPruning, "every_seconds", 0.001)
    pruned, failures = threading.Event(), [True]
    real = prune_if_due

    def due(*stopping: Any) -> bool:
        if failures and failures.pop():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        done = real(*stopping)
        if done:
            pruned.set()
        return done

    monkeypatch.setattr(retention, "prune_if_due", due)
    monkeypatch.setattr(retention, "make_months", list)
    daily.start()
    assert pruned.wait(PATIENCE)
    assert Request.objects.count() == 10


def test_a_month_that_cannot_be_made_does_not_keep_old_rows(
    rows: list[dict[str, Any]], daily: DailyPruning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that goes on for long may have the table each time."""

    def fail() -> None:
        raise OperationalError from psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")

    pruned, real = threading.Event(), prune_if_due

    def due(stopping: threading.Event) -> None:
        real(stopping)
        pruned.set()

    monkeypatch.setattr(DailyPruning, "first_seconds", 0.001)
    monkeypatch.setattr(retention, "make_months", fail)
    monkeypatch.setattr(retention, "prune_if_due", due)
    daily.start()
    assert pruned.wait(PATIENCE)
    assert Request.objects.count() == 10


def test_the_first_id_of_a_moment_is_below_all_of_it_and_above_what_came_before() -> None:
    moment = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert UUID(call(moment)["request_id"]) > first_id(moment)
    assert UUID(call(moment - timedelta(milliseconds=1))["request_id"]) < first_id(moment)


def test_an_outage_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each task would fail alike; a task that fails for another reason does not keep the others from their work."""
    done: list[str] = []

    def fails(error: Exception) -> None:
        done.append("tried")
        raise error

    for error, attempts in [(OperationalError("away"), 1), (ProgrammingError("a table is missing"), 3)]:
        done.clear()
        caplog.clear()
        for task in ("drop_orphans", "make_months", "prune_if_due"):
            monkeypatch.setattr(retention, task, lambda *_, error=error: fails(error))
        DailyPruning().work()
        assert len(done) == len(caplog.records) == attempts
