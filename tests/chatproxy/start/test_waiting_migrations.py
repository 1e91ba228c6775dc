"""A migration that waits for a table lets everybody else go on with it, and says why it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.db.utils import OperationalError, ProgrammingError

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.start import waiting_migrations
from tests.simulator.server import Simulator
from tests.support.polling import wait_until
from tests.support.servers.databases import copied_database, empty_database, manage
from tests.support.servers.gateway import launch_gateway
from usage.database import time_limits

OLD = "0014"  # of the ledger; the migrations after it alter tables
LINE = "chatproxy: a migration waits for transactions that use its tables"


@pytest.fixture(scope="module")
def template(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_database(gateway_database) as url:
        manage(url, tmp_path_factory.mktemp("old"), "migrate", "usage", OLD, "-v", "0")
        yield url


@pytest.fixture
def old(gateway_database: str, template: str) -> Iterator[str]:
    """The database of an older version."""
    with copied_database(gateway_database, template) as url:
        yield url


@contextmanager
def busy(url: str, statement: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Holds what a statement locks until the end of the block, as a long export or a dump does."""
    with psycopg.connect(url) as reader:
        reader.execute(statement.encode())
        yield reader


# What somebody does for long, and what old code writes meanwhile: tables of which later migrations alter one each.
USES = {
    "a dump of the calls": ("LOCK usage_request IN ACCESS SHARE MODE", "SELECT count(*) FROM usage_request"),
    "a read of the sums": ("SELECT count(*) FROM usage_usagehour", "DELETE FROM usage_usagehour WHERE hour IS NULL"),
    "a write of the sums": (
        "LOCK usage_usageday IN ROW EXCLUSIVE MODE",
        "DELETE FROM usage_usageday WHERE day IS NULL",
    ),
    "a read of pending responses": (
        "SELECT count(*) FROM usage_pendingresponse",
        "INSERT INTO usage_pendingresponse (response_id, request_id, key_name) VALUES (gen_random_uuid(),"
        " gen_random_uuid(), 'default')",
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_start_behind_a_long_reader_holds_up_no_writer(
    simulator: Simulator, old: str, tmp_path: Path, use: str
) -> None:
    holds, works = USES[use]
    gateway = launch_gateway(simulator.base_url, old, tmp_path)
    try:
        with busy(old, holds), psycopg.connect(old, autocommit=True) as writer:
            writer.execute(f"SET lock_timeout = {5 * time_limits.LOCK_TIMEOUT_MS}".encode())
            gateway.wait_for_log(LINE)
            for _ in range(8):  # over several tries of the migration
                writer.execute(works.encode())
                writer.execute("SELECT pg_sleep(0.4)")
            assert "Booting worker" not in gateway.log
        gateway.wait_for_log("Booting worker")
    finally:
        gateway.stop()
    assert gateway.log.count(LINE) == 1


def test_the_command_waits_in_the_same_way(old: str, tmp_path: Path) -> None:
    """One limit counts for all migrations: none waits longer for a table because it was started by hand."""
    with busy(old, USES["a read of the sums"][0]) as reader, ThreadPoolExecutor() as pool:
        migrating = pool.submit(manage, old, tmp_path, "migrate", "-v", "0")
        waiting = (
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE NOT granted AND datname = current_database()"
        )
        with psycopg.connect(old, autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(waiting).fetchall() == [(1,)])
            wait_until(lambda: watcher.execute(waiting).fetchall() == [(0,)])  # it holds up others no longer
        assert not migrating.done()
        reader.rollback()
        migrating.result()


def test_no_migration_sets_a_limit_of_its_own() -> None:
    """It would count only where `_limit_wait` does not set another one before the next statement."""
    folders = [BASE_DIR / app / "migrations" for app in ("chatproxy", "proxyapi", "usage")]
    files = [path for folder in folders for path in folder.glob("0*.py")]
    assert len(files) > 40
    setting = [path.name for path in files if "SET LOCAL lock_timeout" in path.read_text()]
    assert setting == ["0024_months.py"]  # which has transactions of its own, and the same limit in them


# The loop, with a migration that the test makes up.


@pytest.fixture
def table(transactional_db: None) -> Iterator[str]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_this_test (number int)")
    yield "of_this_test"
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE of_this_test")


@pytest.fixture
def altering(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """`migrate` alters the table, after it has set a long limit itself."""

    def alter(*_: object, **__: object) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1h'")
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS name text")

    monkeypatch.setattr(waiting_migrations, "call_command", alter)
    monkeypatch.setattr(waiting_migrations, "PAUSE_SECONDS", 0.01)


@pytest.mark.usefixtures("altering")
def test_it_is_tried_until_the_table_is_free(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "LOCK_TIMEOUT_MS", 20)
    notices = []
    with psycopg.connect(**_parameters()) as reader:
        reader.execute(f"LOCK {table} IN ACCESS SHARE MODE".encode())

        def end() -> None:
            notices.append(1)
            threading.Timer(0.3, reader.rollback).start()

        waiting_migrations.migrate(end)
    assert len(notices) == 1
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP COLUMN name")  # it is there
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)  # nothing outlives the transaction


@pytest.mark.usefixtures("altering")
def test_a_free_table_is_altered_without_a_word() -> None:
    waiting_migrations.migrate(_unexpected)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("sql", "error"), [("ALTER TABLE of_nobody ADD x int", ProgrammingError), ("SET LOCAL x.y TO '", ProgrammingError)]
)
def test_what_does_not_pass_by_itself_is_raised(
    monkeypatch: pytest.MonkeyPatch, sql: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(waiting_migrations, "call_command", _running(sql))
    with pytest.raises(error):
        waiting_migrations.migrate(_unexpected)


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_statement_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        waiting_migrations, "call_command", _running("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")
    )
    with pytest.raises(OperationalError, match="statement timeout"):
        waiting_migrations.migrate(_unexpected)


def _running(sql: str) -> Callable[..., None]:
    def run(*_: object, **__: object) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)

    return run


def _unexpected() -> None:
    raise AssertionError("nothing was in the way")


def _parameters() -> dict[str, Any]:
    return {name: value for name, value in connection.get_connection_params().items() if name != "cursor_factory"}


@pytest.mark.django_db(transaction=True)
def test_a_migration_may_pause_between_its_statements() -> None:
    """On a database that ends idle transactions soon; other transactions of the connection keep that limit."""
    shown: list[str] = []
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '90s'")
        try:
            with transaction.atomic(), connection.execute_wrapper(waiting_migrations._limit_wait):
                cursor.execute("SHOW idle_in_transaction_session_timeout")
                shown += cursor.fetchone() or ()
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            shown += cursor.fetchone() or ()
        finally:
            cursor.execute("RESET idle_in_transaction_session_timeout")
    assert shown == ["0", "90s"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_no_statement_of_a_migration_is_cut_by_a_limit_of_the_role(
    monkeypatch: pytest.MonkeyPatch, table: str, limit: str
) -> None:
    """Neither in a transaction nor outside, where an index is made beside readers and writers."""

    def run(*_: object, **__: object) -> None:
        with connection.cursor() as cursor:
            with transaction.atomic():
                cursor.execute("SELECT pg_sleep(0.6)")
            cursor.execute(f"CREATE INDEX CONCURRENTLY of_this_test_slow ON {table} ({slow}(number))")

    slow = "of_this_test_slowly"
    monkeypatch.setattr(waiting_migrations, "call_command", run)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (1)")  # noqa: S608  (our own name)
        cursor.execute(
            f"CREATE FUNCTION {slow}(number int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.6); RETURN number; END $$"
        )
        cursor.execute(f"SET {limit} = '300ms'")
        try:
            waiting_migrations.migrate(_unexpected)
        finally:
            cursor.execute(f"RESET {limit}")
            cursor.execute(f"DROP INDEX IF EXISTS of_this_test_slow; DROP FUNCTION {slow}")
