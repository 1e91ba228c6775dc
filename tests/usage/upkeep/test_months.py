"""The partitions of coming months: made in time, by one host, and without a call lost where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections

from tests.support.ledger.ledgers import call, end, ship
from tests.support.ledger.months import drop, months, names, places
from tests.support.polling import wait_until
from usage.database import partitions as partitions_module
from usage.database import time_limits
from usage.database.partitions import is_locked, make_partition, partitions
from usage.sums.totals_reader import next_month
from usage.upkeep.months import (
    BODIES,
    CALLS,
    TABLES,
    make_months,
    month_of,
    month_partition,
    tables_with_strays,
)
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)
WAITERS = "SELECT FROM pg_locks WHERE NOT granted AND relation = ANY(%s::regclass[])"
LATER = next_month(next_month(NOW)) + timedelta(days=3)  # nobody has made its month


@pytest.fixture(autouse=True)
def _usual_months() -> Iterator[None]:
    with months(month_of(NOW), next_month(NOW)):
        yield


def test_a_new_ledger_has_this_month_and_the_next() -> None:
    assert make_months() == []
    for table in TABLES:
        assert [one.start for one in partitions(table)] == [month_of(NOW), next_month(NOW)]


def test_it_works(tmp_path: Path) -> None:
    assert make_months(LATER) == [f"{table}_{month:%Y_%m}" for table in TABLES for month in (LATER, next_month(LATER))]
    assert make_months(LATER) == []
    row = call(LATER, request_body="asked")
    ship(tmp_path, end(row))
    assert places(CALLS) == {row["request_id"]: f"usage_request_{LATER:%Y_%m}"}
    assert places(BODIES) == {row["request_id"]: f"usage_requestbody_{LATER:%Y_%m}"}
    assert list(find_faults(Path("/nonexistent"))) == []


def test_rows_that_came_before_their_partition_move_to_it(tmp_path: Path) -> None:
    rows = [call(LATER, request_body="asked"), call(next_month(LATER)), call(LATER + timedelta(days=300))]
    ship(tmp_path, *map(end, rows))
    assert set(places().values()) == {"usage_request_default"}
    assert tables_with_strays() == [CALLS, BODIES]
    make_months(LATER)
    assert [places()[row["request_id"]] for row in rows] == [
        f"usage_request_{LATER:%Y_%m}",
        f"usage_request_{next_month(LATER):%Y_%m}",
        "usage_request_default",
    ]
    assert tables_with_strays() == [CALLS]
    assert list(find_faults(Path("/nonexistent"))) == []


def test_many_hosts_make_them_once() -> None:
    def make(_: int) -> None:
        try:
            make_months(LATER)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(4)))
    assert len(names(CALLS)) == len(names(BODIES)) == 4


def test_beside_a_dump_they_wait_and_no_call_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(partitions_module, "PAUSE_SECONDS", 0.0)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as dump:
        dump.execute("LOCK TABLE usage_request, usage_requestbody IN ACCESS SHARE MODE")
        with pytest.raises(OperationalError) as raised:
            make_months(LATER)
        assert is_locked(raised.value)
        ship(tmp_path, end(call(LATER)))
    assert len(make_months(LATER)) == 4
    assert tables_with_strays() == []


def test_a_call_that_waits_for_its_month_to_be_made_is_no_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 0)
    row, month = call(LATER, request_body="asked"), month_partition(BODIES, month_of(LATER))

    def waiters() -> int:
        with connection.cursor() as cursor:
            cursor.execute(WAITERS, [[BODIES, f"{BODIES}_default"]])
            return len(cursor.fetchall())

    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as reader:
            reader.execute(f"LOCK TABLE {BODIES}_default IN ACCESS SHARE MODE")
            made = pool.submit(_in_thread, partial(make_partition, BODIES, month))
            wait_until(lambda: waiters() == 1)
            shipped = pool.submit(_in_thread, partial(ship, tmp_path, end(row)))
            wait_until(lambda: waiters() == 2)
        made.result()
        assert shipped.result().dead_letters == 0
    assert places(BODIES) == {row["request_id"]: month.name}
    assert list(find_faults(Path("/nonexistent"))) == []


def _in_thread(run: Callable[[], Any]) -> Any:
    try:
        return run()
    finally:
        connections.close_all()


def test_a_month_that_was_lost_is_made_again() -> None:
    gone = f"usage_request_{next_month(NOW):%Y_%m}"
    drop(gone)
    assert make_months() == [gone]
