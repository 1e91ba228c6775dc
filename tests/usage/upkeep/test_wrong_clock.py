"""A clock that is wrong, this machine's or the database's, deletes no call, drops no hold and hides no fault."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import call, call_id, end, ship
from tests.support.moved_clock import PutClock, ServerClock
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import Gateway
from usage.database import clock
from usage.database.clock import database_now
from usage.journal_shipping import background_responses
from usage.journal_shipping.background_responses import lease_pending
from usage.models import Hold, LedgerState, PendingResponse, Request, RequestBody, Span, UsageTotal
from usage.money.spent_and_reserved import drop_orphans
from usage.sums import pruned_calls
from usage.upkeep.retention import prune, prune_if_due
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
FAR = timedelta(days=500)
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _settings(settings: Settings) -> None:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 365, 30


@pytest.fixture
def young(tmp_path: Path) -> list[str]:
    """The ids of a ledger that was begun twenty days ago, and has been pruned each day since."""
    rows = [call(NOW - timedelta(days=days, minutes=1), request_body="asked") for days in range(20)]
    ship(tmp_path, *map(end, rows))
    assert prune_if_due()
    LedgerState.objects.update(pruned_at=NOW - DAY)
    return [row["request_id"] for row in rows]


@pytest.fixture
def put_both_clocks(put_clock: PutClock, monkeypatch: pytest.MonkeyPatch) -> PutClock:
    """Puts the clock of the machine ahead on which both run: they agree, and both are wrong."""

    def move(ahead: timedelta) -> None:
        for module in (clock, pruned_calls, background_responses):
            monkeypatch.setattr(module, "database_now", lambda: database_now() + ahead)
        put_clock(ahead)

    return move


@pytest.mark.parametrize("ahead", [FAR, -FAR, timedelta(hours=3), -timedelta(hours=3), timedelta(minutes=6)])
def test_nothing_is_pruned_while_the_clocks_differ(
    young: list[str],
    tmp_path: Path,
    put_clock: PutClock,
    caplog: pytest.LogCaptureFixture,
    ahead: timedelta,
) -> None:
    LedgerState.objects.update(pruned_before=NOW - 370 * DAY)  # so that this one is due, and has not been pruned
    ship(tmp_path, end(call(NOW - 366 * DAY)))
    put_clock(ahead)
    assert prune_if_due() is False
    [line] = [record.getMessage() for record in caplog.records if record.name == "usage.upkeep.retention"]
    assert f"{abs(ahead)} {'ahead of' if ahead > timedelta() else 'behind'} the database's" in line
    with pytest.raises(CommandError, match="the clock of this machine is"):
        call_command("ledger", "prune", "--yes")
    assert Request.objects.count() == 21
    assert RequestBody.objects.count() == 20
    put_clock(timedelta())
    assert prune_if_due() is True


@pytest.mark.parametrize("ahead", [timedelta(seconds=100), -timedelta(seconds=100)])
def test_a_difference_of_seconds_is_ordinary(young: list[str], put_clock: PutClock, ahead: timedelta) -> None:
    put_clock(ahead)
    assert prune_if_due() is True


def test_when_both_clocks_are_wrong_a_day_costs_a_few_days_at_most(young: list[str], put_both_clocks: PutClock) -> None:
    put_both_clocks(FAR)
    assert prune_if_due() is True
    assert prune_if_due() is False
    assert Request.objects.count() == 20
    assert RequestBody.objects.count() == 20
    assert UsageTotal.objects.filter(span=Span.MINUTE).exists()

    put_both_clocks(timedelta())  # right again: the mark of a time that has not come is ignored
    assert prune_if_due() is True
    assert prune_if_due() is False
    assert list(find_faults(Path("/nonexistent"))) == []


def test_no_prune_takes_more_than_a_few_days_without_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship(tmp_path, *(end(call(NOW - timedelta(days=days, hours=1), request_body="x")) for days in range(350, 390)))
    for left in (37, 34, 31):
        call_command("ledger", "prune")
        assert Request.objects.count() == RequestBody.objects.count() == left
        assert "all of it with --yes" in capsys.readouterr().out
        assert list(find_faults(Path("/nonexistent"))) == []
    call_command("ledger", "prune", "--yes")
    assert capsys.readouterr().out == "pruned 16 rows and 31 bodies\n"
    assert Request.objects.count() == 15
    assert list(find_faults(Path("/nonexistent"))) == []


def test_what_waits_goes_day_by_day(tmp_path: Path) -> None:
    ship(tmp_path, *(end(call(NOW - timedelta(days=days, hours=1))) for days in range(360, 380)))
    counts = [20]
    for later in range(9):
        prune(NOW + later * DAY)
        counts.append(Request.objects.count())
    assert counts == [20, 17, 14, 11, 8, 5, 2, 0, 0, 0]


@pytest.mark.parametrize("year", [1970, 2019])
def test_calls_of_a_clock_that_was_years_behind_stay(young: list[str], tmp_path: Path, year: int) -> None:
    lost = call(datetime(year, 1, 2, tzinfo=UTC), request_body="asked")
    ship(tmp_path, end(lost))
    assert prune_if_due() is True
    assert Request.objects.filter(pk=lost["request_id"]).exists()
    assert RequestBody.objects.filter(pk=lost["request_id"]).exists()
    call_command("ledger", "prune", "--yes")
    assert not Request.objects.filter(pk=lost["request_id"]).exists()
    assert Request.objects.count() == 20


def test_calls_of_a_wrong_clock_do_not_hold_up_the_others(tmp_path: Path) -> None:
    ship(tmp_path, end(call(datetime(1970, 1, 2, tzinfo=UTC))), end(call(NOW - 366 * DAY)), end(call(NOW)))
    assert prune_if_due() is True
    assert Request.objects.count() == 2


def test_marks_in_the_future_are_ignored(young: list[str]) -> None:
    LedgerState.objects.update(pruned_at=NOW + FAR, pruned_before=NOW + 100 * DAY, bodies_pruned_before=NOW + FAR)
    Request.objects.filter(pk=young[3]).delete()
    assert list(find_faults(Path("/nonexistent")))
    assert prune_if_due() is True
    assert list(find_faults(Path("/nonexistent")))
    state = LedgerState.load()
    assert all(mark and mark <= NOW + DAY for mark in (state.pruned_at, state.pruned_before))
    assert state.bodies_pruned_before
    assert state.bodies_pruned_before <= NOW


def test_a_wrong_mark_does_not_make_sums_wrong_whose_rows_are_gone(young: list[str]) -> None:
    """As an older version left it: the rows up to the wrong clock's end of retention were deleted."""
    Request.objects.filter(pk__in=young[10:]).delete()
    LedgerState.objects.update(pruned_at=NOW + FAR, pruned_before=NOW + 100 * DAY)
    assert list(find_faults(Path("/nonexistent"))) == []
    assert prune_if_due() is True
    assert list(find_faults(Path("/nonexistent"))) == []


@pytest.mark.parametrize("ahead", [timedelta(hours=3), -timedelta(hours=3), FAR])
def test_a_hold_is_as_old_as_the_database_says(put_clock: PutClock, ahead: timedelta) -> None:
    put_clock(ahead)
    row = call(NOW)
    Hold.objects.create(pk=UUID(row["request_id"]), key_name="a", day=NOW.date(), dollars=1)
    assert drop_orphans() == 0
    Hold.objects.update(made_at=NOW - timedelta(hours=3))
    assert drop_orphans() == 1


def test_a_response_is_waited_for_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    PendingResponse.objects.create(response_id="resp_1", request_id=call_id(), key_name="a")
    found = PendingResponse.objects.get()
    assert abs(found.created_at - database_now()) < timedelta(minutes=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_pendingresponse SET ask_at = now() - interval '1 second'")
    assert [response.response_id for response in lease_pending(5)] == ["resp_1"]
    assert lease_pending(5) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_whose_ids_are_ahead_of_the_clock_is_replaced(
    start_gateway: Callable[..., Gateway], tmp_path: Path, workers: str
) -> None:
    server_clock = ServerClock(tmp_path)
    gateway = start_gateway(**server_clock.settings, WEB_CONCURRENCY=workers)
    before = set(gateway.worker_pids)
    server_clock.put(timedelta(seconds=-1000))
    gateway.wait_for_log("seconds ahead of the clock")
    wait_until(lambda: not any(map(is_running, before)))
    wait_until(lambda: sum(map(is_running, gateway.worker_pids)) == int(workers))
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    assert gateway.row(gateway.post("/openai", body))["outcome"] == "success"
    assert gateway.stop(signal.SIGTERM) == 0


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
