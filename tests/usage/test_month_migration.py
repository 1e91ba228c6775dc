"""The ledger of an older version is partitioned while it is in use: no row is lost, whenever it is interrupted."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.migrations import RunPython

from tests.support.documentation import blocks
from tests.support.ledger.ledgers import call
from tests.support.ledger.months import ledger_at, names, places
from tests.support.polling import wait_until
from tests.support.servers.databases import copied_database, empty_database, manage
from usage.database.partitions import is_locked, partitions
from usage.journal_shipping.rows import write_rows
from usage.models import Request, RequestBody
from usage.sums.totals_reader import next_month
from usage.upkeep.months import BODIES, CALLS, TABLES, month_of
from usage.upkeep.retention import prune
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db

MIGRATION = import_module("usage.migrations.0024_months")
NOW = datetime.now(UTC)
FUTURE = NOW + timedelta(days=400)  # of a clock that is wrong
INDEXES = "SELECT indexname FROM pg_indexes WHERE tablename = ANY(%s)"
LEFT_OVER = """
    SELECT conname FROM pg_constraint WHERE conname ~ '_until_[0-9]{4}_[0-9]{2}$' AND contype <> 'p'
    UNION SELECT conname FROM pg_constraint WHERE conrelid = 'usage_requestbody'::regclass AND contype = 'f'
    UNION SELECT proname FROM pg_proc WHERE proname LIKE 'usage_request%'
    UNION SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid WHERE NOT indisvalid
"""


@pytest.fixture(scope="module")
def template(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with all migrations but this one, so that this version's code can write to it."""
    directory = tmp_path_factory.mktemp("old")
    with empty_database(gateway_database) as url:
        manage(url, directory, "migrate", "usage", "0023", "-v", "0")
        manage(url, directory, "migrate", "--fake", "usage", "0024", "-v", "0")
        manage(url, directory, "migrate", "-v", "0")
        yield url


@pytest.fixture
def old(gateway_database: str, template: str) -> Iterator[str]:
    """The database of the version before, in which this thread's code works."""
    with copied_database(gateway_database, template) as url, ledger_at(url):
        yield url


def partition() -> None:
    MIGRATION.partition(None, SimpleNamespace(connection=connection))


def partition_in_the_end() -> None:
    """Partitions the tables, and tries again while writers have them, as the start of a server does."""
    while True:
        try:
            return partition()
        except OperationalError as error:
            if not is_locked(error):
                raise


def faults() -> list[str]:
    return list(find_faults(Path("/nonexistent")))


def write(*moments: datetime) -> set[str]:
    """Writes a call with a body for each time; returns their ids."""
    rows = [call(moment, request_body="asked") for moment in moments]
    write_rows(rows)
    return {row["request_id"] for row in rows}


def index_names() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(INDEXES, [list(TABLES)])
        return {name for (name,) in cursor.fetchall()}


def assert_whole(ids: set[str]) -> None:
    """Both tables are partitioned, and have just the calls with these ids, unchanged."""
    assert places(CALLS).keys() == places(BODIES).keys() == ids
    assert faults() == []
    with connection.cursor() as cursor:
        cursor.execute(LEFT_OVER)
        assert cursor.fetchall() == []


def test_a_full_ledger_becomes_the_first_partition(old: str) -> None:
    before = index_names()
    old_ids = write(*(NOW - timedelta(days=days) for days in range(0, 400, 9)))
    lost, stray = write(datetime(1970, 1, 2, tzinfo=UTC)), write(FUTURE)
    partition()
    first, *later = partitions(CALLS)
    assert first.start is None
    assert NOW + timedelta(days=6) < first.end < NOW + timedelta(days=70)
    assert [one.start for one in later] == [first.end]
    assert index_names() == before
    ids = old_ids | lost | stray | write(first.end, next_month(first.end))
    assert_whole(ids)
    by_place: dict[str, set[str]] = {}
    for request_id, place in places().items():
        by_place.setdefault(place, set()).add(request_id)
    assert by_place[first.name] == old_ids | lost
    assert len(by_place[later[0].name]) == 1
    assert stray < by_place["usage_request_default"]
    assert len(by_place["usage_request_default"]) == 2


def test_an_empty_ledger_gets_months(old: str) -> None:
    before = index_names()
    partition()
    this, coming = month_of(NOW), next_month(NOW)
    assert names(CALLS) == {f"usage_request_{this:%Y_%m}", f"usage_request_{coming:%Y_%m}"}
    assert names(BODIES) == {f"usage_requestbody_{this:%Y_%m}", f"usage_requestbody_{coming:%Y_%m}"}
    assert index_names() == before
    assert_whole(write(NOW, coming, FUTURE))


def test_a_check_of_numbers_holds_for_new_partitions(old: str) -> None:
    partition()
    with pytest.raises(Exception, match="usage_request_input_tokens_check"):
        write_rows([call(next_month(NOW), input_tokens=-1)])


def test_readers_of_the_table_may_read_it_afterwards(old: str) -> None:
    write(NOW)
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS of_dashboards")
        cursor.execute("CREATE ROLE of_dashboards")
        cursor.execute("GRANT SELECT ON usage_request TO of_dashboards")
        partition()
        cursor.execute("SET ROLE of_dashboards")
        cursor.execute("SELECT count(*) FROM usage_request")
        assert cursor.fetchone() == (1,)
        cursor.execute("RESET ROLE")
        cursor.execute("DROP OWNED BY of_dashboards")
        cursor.execute("DROP ROLE of_dashboards")


class Killed(Exception):
    """Error of the test: the server was killed before this statement, which its connection does not survive."""


def test_it_goes_on_after_a_kill_at_any_statement(old: str) -> None:
    ids = write(NOW, NOW - timedelta(days=40), FUTURE)
    for last in count(1):
        done = count(1)

        def kill(execute: Callable[..., Any], *arguments: Any, last: int = last, done: Iterator[int] = done) -> Any:
            if next(done) > last:
                raise Killed
            return execute(*arguments)

        try:
            with connection.execute_wrapper(kill):
                partition()
        except Killed:
            connection.close()
        else:
            break
        ids |= write(NOW)  # the version before goes on writing and reading
        assert places().keys() == ids
        assert faults() == []
    assert last > 60
    assert_whole(ids)


def test_it_is_done_while_calls_are_written(old: str) -> None:
    ids = write(*(NOW - timedelta(hours=hours) for hours in range(500)))
    stopping = threading.Event()

    def go_on_writing() -> set[str]:
        written: set[str] = set()
        with ledger_at(old):
            while not stopping.is_set():
                written |= write(*[datetime.now(UTC)] * 20)
        return written

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(go_on_writing) for _ in range(3)]
        try:
            wait_until(lambda: Request.objects.count() > 600)
            partition_in_the_end()
            count_then = Request.objects.count()
            wait_until(lambda: Request.objects.count() > count_then + 200)
        finally:
            stopping.set()
    for writer in writers:
        ids |= writer.result()
    assert_whole(ids)


def test_a_call_of_a_clock_that_is_ahead_waits_until_it_is_done(old: str) -> None:
    """Were it refused, it would go to the dead letters."""
    write(NOW)
    end = next_month(next_month(NOW))
    with transaction.atomic(), connection.cursor() as cursor:
        MIGRATION._guard(cursor, end)
    with pytest.raises(OperationalError) as raised:
        write(FUTURE)
    assert is_locked(raised.value)
    write(NOW)
    partition()
    [stray] = write(FUTURE)
    assert places()[stray] == "usage_request_default"


def test_who_stays_with_the_older_version_half_way_takes_back_what_was_begun(old: str) -> None:
    end = next_month(next_month(NOW))
    with transaction.atomic(), connection.cursor() as cursor:
        MIGRATION._guard(cursor, end)
    [statements] = blocks("sql", "docs/ledger.md")
    with connection.cursor() as cursor:
        cursor.execute(re.sub(r"_\d{4}_\d{2}", f"_{end:%Y_%m}", statements))
    ids = write(NOW, FUTURE)
    partition()
    assert_whole(ids)


def test_the_way_back_changes_nothing_and_so_does_a_second_way_there(old: str) -> None:
    assert MIGRATION.Migration.operations[0].reverse_code is RunPython.noop
    ids = write(NOW)
    partition()
    ids |= write(NOW)
    partition()
    assert_whole(ids)


def test_rows_from_before_go_day_by_day_and_then_their_partition(old: str, settings: Any) -> None:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 10, 5
    write(*(NOW - timedelta(days=days, hours=1) for days in range(14)))
    partition()
    [first, _] = partitions(CALLS)
    prune(NOW)
    assert Request.objects.count() == 11  # three days at once
    prune(NOW)
    assert Request.objects.count() == 10
    assert faults() == []
    for days in range(0, 100, 3):
        prune(NOW + timedelta(days=days))
    assert Request.objects.count() == RequestBody.objects.count() == 0
    assert first.name not in names(CALLS)
